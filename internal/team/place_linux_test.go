package team

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A worker that wakes on a fellow's CPU moves to one without a fellow, if there
// is one, and may go where it likes afterwards.
func TestWorkersTakePlacesApart(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	crowd := &Team{seats: make([]seat, 3)} // worker 0 is this thread, 1 is everywhere it may come to
	for range 100 {
		crowd.seats[1].place.Store(int32(currentCPU()) + 1)
		crowd.takePlace(0)
		apart := crowd.seats[0].place.Load() != crowd.seats[1].place.Load()
		if alone := before.Count() == 1; apart == alone {
			t.Fatalf("%d CPUs: fellow on CPU %d, worker on %d", before.Count(), crowd.seats[1].place.Load()-1, crowd.seats[0].place.Load()-1)
		}
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil || before != after {
		t.Errorf("allowed CPUs were %v, are %v (%v)", before, after, err)
	}
}

// Where every CPU has a fellow, a worker stays.
func TestNoPlaceLeft(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	crowd := &Team{seats: make([]seat, 1+1024)}
	for cpu := 1; cpu < len(crowd.seats); cpu++ {
		crowd.seats[cpu].place.Store(int32(cpu))
	}
	crowd.takePlace(0)
	if place := int(crowd.seats[0].place.Load()); place < 1 || place >= len(crowd.seats) {
		t.Errorf("on CPU %d", place-1)
	}
}
