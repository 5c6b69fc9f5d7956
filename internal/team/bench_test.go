package team

import "testing"

func BenchmarkRun(b *testing.B) {
	team := New(2)
	defer team.Close()
	job := func(w Worker) { w.Barrier() } // all have started
	for b.Loop() {
		team.Run(job)
	}
}

func BenchmarkBarrier(b *testing.B) {
	team := New(2)
	defer team.Close()
	team.Run(func(w Worker) {
		for range b.N {
			w.Barrier()
		}
	})
}
