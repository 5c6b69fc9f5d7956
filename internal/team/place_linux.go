package team

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// takePlace is for a worker that has just woken: it goes on on a CPU where no
// fellow has woken in this run, if there is one. A kernel wakes a thread beside the one that woke it when it
// takes the other CPUs for busy, which those of a virtual machine seem to be
// whenever they sleep; two workers then share a CPU for 10 ms and more. The
// thread is only moved, not bound: when others need the CPU it can leave.
//
// It needs the goroutine locked to its thread.
func (t *Team) takePlace(id int) {
	cpu := currentCPU()
	if t.fellowOn(id, cpu) {
		cpu = t.moveAway(id, cpu)
	}
	t.seats[id].place.Store(int32(cpu) + 1)
}

func (t *Team) fellowOn(id, cpu int) bool {
	for i := range t.seats {
		if i != id && int(t.seats[i].place.Load()) == cpu+1 {
			return true
		}
	}
	return false
}

// moveAway takes the thread from a CPU to an allowed one without a fellow, and
// says to which. What fails leaves it where it is, which is correct and slow.
func (t *Team) moveAway(id, from int) (to int) {
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return from
	}
	free := allowed
	for i := range t.seats {
		if place := int(t.seats[i].place.Load()); i != id && place > 0 {
			free.Clear(place - 1)
		}
	}
	if free.Count() == 0 || unix.SchedSetaffinity(0, &free) != nil {
		return from
	}
	to = currentCPU()
	_ = unix.SchedSetaffinity(0, &allowed)
	return to
}

// currentCPU is the number of the CPU that runs the caller; 0 if unknown.
func currentCPU() int {
	var cpu uint32
	_, _, _ = unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return int(cpu)
}
