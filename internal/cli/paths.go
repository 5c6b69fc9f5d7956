package cli

import (
	"os"
	"path/filepath"
	"strings"
)

// dataHome is where agents and their KV live: under systemd its state folder,
// else $XDG_DATA_HOME/mneme.
func dataHome(w World) string {
	if dir := firstDir(w.Getenv("STATE_DIRECTORY")); dir != "" {
		return dir
	}
	return filepath.Join(xdg(w, "XDG_DATA_HOME", ".local", "share"), "mneme")
}

// modelsHome is where pulled model files live: under systemd its cache folder,
// else $XDG_CACHE_HOME/mneme, and models below it.
func modelsHome(w World) string {
	if dir := firstDir(w.Getenv("CACHE_DIRECTORY")); dir != "" {
		return filepath.Join(dir, "models")
	}
	return filepath.Join(xdg(w, "XDG_CACHE_HOME", ".cache"), "mneme", "models")
}

func configHome(w World) string { return xdg(w, "XDG_CONFIG_HOME", ".config") }

// xdg is the folder a variable names, else one below the home folder. The XDG
// rules say that a relative path is to be ignored.
func xdg(w World, variable string, fallback ...string) string {
	if dir := w.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home := w.Getenv("HOME")
	if home == "" {
		home = os.TempDir()
	}
	return filepath.Join(append([]string{home}, fallback...)...)
}

// firstDir is the first of systemd's colon-separated folders.
func firstDir(list string) string {
	dir, _, _ := strings.Cut(list, ":")
	return dir
}
