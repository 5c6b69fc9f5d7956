package roster

import (
	"errors"
	"maps"
	"slices"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// keyless is an agent's folder, or a family, that there is no key of.
type keyless struct {
	namespace format.Digest
	dir       string
	family    format.FamilyID // instead of dir
}

// noteKeyless remembers what could not be read, if that was for want of a key.
func (r *Roster) noteKeyless(k keyless, err error) {
	var because *format.KeylessError
	if errors.As(err, &because) {
		k.namespace = because.Namespace
		r.keyless = append(r.keyless, k)
	}
}

// RemoveKeyless removes what a namespace has that Open had no key of.
func (r *Roster) RemoveKeyless(namespace format.Digest) error {
	var families []format.FamilyID
	for _, k := range r.keyless {
		switch {
		case k.namespace != namespace:
		case k.dir == "":
			families = append(families, k.family)
		default:
			if err := vfs.RemoveTree(r.o.FS, k.dir); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(r.families.Remove(families...), r.Sync()); err != nil {
		return err
	}
	r.keyless = slices.DeleteFunc(r.keyless, func(k keyless) bool { return k.namespace == namespace })
	return nil
}

// encode is the catalogue's file: with a ring a part for each namespace that has a
// key; agents of others are read from their files.
func (r *Roster) encode(all format.Catalogue) ([]byte, error) {
	if r.o.Ring == nil {
		return format.EncodeCatalogue(all), nil
	}
	parts := map[string]*format.Part{}
	of := func(namespace string) *format.Part {
		if parts[namespace] == nil {
			parts[namespace] = &format.Part{}
		}
		return parts[namespace]
	}
	for _, k := range all.Families {
		p := of(k.Namespace)
		p.Families = append(p.Families, k)
	}
	for _, a := range all.Agents {
		p := of(a.Namespace)
		p.Agents = append(p.Agents, a)
	}
	var list []format.Part
	for _, namespace := range slices.Sorted(maps.Keys(parts)) {
		p, err := parts[namespace], error(nil)
		if p.Cipher, err = r.o.Ring.Of(namespace); err != nil {
			r.o.Log.Warn("store: no key for the catalogue", "err", err)
			continue
		}
		list = append(list, *p)
	}
	return format.EncryptCatalogue(list)
}

// Plain are the agents whose own files are not encrypted and are to be.
func (r *Roster) Plain() []*Agent {
	return slices.DeleteFunc(r.All(), func(a *Agent) bool { return !r.IsPlain(a) || a.Damaged != "" })
}

// IsPlain tells whether an agent has a file of its own that is to be encrypted.
func (r *Roster) IsPlain(a *Agent) bool {
	return r.o.Ring != nil && a.Card.End > 0 && !a.Card.Encrypted()
}

// EncryptFamilies writes every family anew that is to be encrypted, under the name
// that it has, and says how many.
func (r *Roster) EncryptFamilies() (n int, err error) {
	if r.o.Ring == nil {
		return 0, nil
	}
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.kin))
	r.mu.Unlock()
	for _, k := range all {
		if k.Encrypted() {
			continue
		}
		if err := r.encryptFamily(k); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (r *Roster) encryptFamily(k *kin) error {
	found, err := r.families.Read(k.Family)
	if err == nil {
		err = r.families.Write(&found.Family)
	}
	if err == nil {
		r.setKin(&found.Family, true)
	}
	return err
}
