package hub

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

const progressEvery = 200 * time.Millisecond

// watch draws how much lies in dir, of about total bytes, until done is called; nothing unless w is a terminal.
func watch(w io.Writer, title, dir string, total int64) (done func()) {
	if !isTerminal(w) {
		return func() {}
	}
	progress := mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(progressEvery))
	bar := progress.AddBar(total,
		mpb.PrependDecorators(decor.Name(title+" ")),
		mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f")))
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		follow(bar, dir, total, quit)
	}()
	return func() {
		close(quit)
		<-ended
		bar.Abort(true)
		progress.Wait()
	}
}

// follow moves the bar until quit is closed. It stops short of the end: the whole is more than its bytes.
func follow(bar *mpb.Bar, dir string, total int64, quit <-chan struct{}) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			bar.SetCurrent(min(folderBytes(dir), total-1))
		}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// folderBytes is how much lies in dir; what goes away meanwhile does not count.
func folderBytes(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
