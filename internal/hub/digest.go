package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// DigestError says that an alias's file is not the file that was fetched.
type DigestError struct {
	Alias, Path string
	Got, Want   string // sha256, hex
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("hub: %s is damaged: its sha256 is %s, that of %s is %s; fetch it again with: mneme rm %[3]s && mneme pull %[3]s", e.Path, e.Got, e.Alias, e.Want)
}

// CheckDigest compares the sha256 of the model's file, hex, with what it must be. It is a *DigestError that they differ;
// a file that is no alias's may have any.
func (m Model) CheckDigest(got string) error {
	if m.SHA256 == "" || m.SHA256 == got {
		return nil
	}
	return &DigestError{Alias: m.Alias, Path: m.Path, Got: got, Want: m.SHA256}
}

// Verify reads the model's file and checks its digest.
func (m Model) Verify() error {
	if m.SHA256 == "" {
		return nil
	}
	file, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	return m.CheckDigest(hex.EncodeToString(hash.Sum(nil)))
}
