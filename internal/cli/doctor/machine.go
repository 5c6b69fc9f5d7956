package doctor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mneme/internal/cli/machine"
	"mneme/internal/cli/value"
	"mneme/internal/tensor"
	"mneme/internal/vfs"
)

const (
	littleDisk = 1 << 30 // bytes free, below which agents soon have no room
	noDisk     = 1 << 20 // bytes free, below which nothing works
	pipLimit   = 20 * time.Second
)

// processor says what the CPU has of what kernels ask for.
func processor() verdict {
	has := "nothing that kernels ask for"
	if features := tensor.Features(); len(features) > 0 {
		has = strings.Join(features, " ")
	}
	return verdict{good, fmt.Sprintf("%s, %d CPUs, %s", runtime.GOARCH, runtime.NumCPU(), has)}
}

func (d Doctor) kernels() verdict {
	k, err := tensor.Pick(d.Settings.Kernel)
	if err != nil {
		return verdict{bad, err.Error()}
	}
	var all []string
	for _, v := range tensor.Variants() {
		all = append(all, v.Name())
	}
	text := fmt.Sprintf("%s, numerics class %s; this machine runs %s", k.Name(), k.Class(), strings.Join(all, ", "))
	if k.Name() == "generic" {
		return verdict{warn, text + ": correct, but many times slower"}
	}
	return verdict{good, text}
}

func memory() verdict {
	free, err := machine.FreeMemory()
	if err != nil {
		return verdict{warn, err.Error() + "; give --kv-memory"}
	}
	return verdict{good, value.Bytes(free) + " free"}
}

// folder checks that files can be written there, or in the nearest folder
// above it that exists.
func folder(dir string) verdict {
	at, err := filepath.Abs(dir)
	if err != nil {
		return verdict{bad, err.Error()}
	}
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return verdict{bad, fmt.Sprintf("%s: cannot write to %s: %v", dir, at, err)}
	}
	free, err := vfs.Real().Free(at)
	if err != nil {
		return verdict{warn, fmt.Sprintf("%s: %v", dir, err)}
	}
	v := verdict{good, fmt.Sprintf("%s, %s free", dir, value.Bytes(int64(free)))}
	if free < noDisk {
		v.level = bad
	} else if free < littleDisk {
		v.level = warn
	}
	return v
}

// pip looks for the client that fetches models.
func pip(ctx context.Context) verdict {
	ctx, cancel := context.WithTimeout(ctx, pipLimit)
	defer cancel()
	for _, client := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}} {
		out, err := exec.CommandContext(ctx, client[0], append(client[1:], "--version")...).Output()
		if err == nil {
			text, _, _ := strings.Cut(string(bytes.TrimSpace(out)), " from ")
			return verdict{good, text}
		}
	}
	return verdict{warn, "not found: models cannot be fetched, only given as a path"}
}
