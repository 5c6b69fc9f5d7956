package watch

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A step of 10 s is nothing. One of 50 s is reported once while it runs, and its
// end too.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		w, done := New(30*time.Second, slog.New(slog.NewTextHandler(&said, nil))), make(chan struct{})
		go w.Run(done)
		defer close(done)

		w.Begin(3, 64)
		time.Sleep(10 * time.Second)
		w.End()
		if w.Err() != nil || w.Stuck() != 0 || said.Len() != 0 {
			t.Errorf("after 10s: %v, %d stuck, %s", w.Err(), w.Stuck(), said.String())
		}

		w.Begin(2, 512)
		if time.Sleep(29 * time.Second); w.Err() != nil {
			t.Errorf("after 29s: %v", w.Err())
		}
		time.Sleep(21 * time.Second)
		if err := w.Err(); err == nil || err.Error() != "a step of 512 tokens of 2 sequences has been running for 50s" || w.Stuck() != 1 {
			t.Errorf("after 50s: %v, %d stuck", err, w.Stuck())
		}
		w.End()
		synctest.Wait()
		if log := said.String(); strings.Count(log, "a step is stuck") != 1 || strings.Count(log, "has ended") != 1 {
			t.Errorf("the log says\n%s", log)
		}
		if w.Err() != nil || w.Stuck() != 1 {
			t.Errorf("at the end: %v, %d stuck", w.Err(), w.Stuck())
		}
	})
}

// A step that ends before anybody has looked is counted all the same.
func TestNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(time.Second, slog.New(slog.DiscardHandler))
		w.Begin(1, 1)
		time.Sleep(2 * time.Second)
		if w.End(); w.Stuck() != 1 {
			t.Errorf("%d stuck, want 1", w.Stuck())
		}
	})
}
