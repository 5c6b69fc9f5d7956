package kv

import "mneme/internal/quant"

// Reservation is a stock of blocks taken from the pool for one turn. It has one
// owner at a time; Return gives back what was not used.
type Reservation struct {
	pool   *Pool
	blocks [][]BlockID // by class
}

// Add moves other's blocks into r.
func (r *Reservation) Add(other *Reservation) {
	for c, ids := range other.blocks {
		r.blocks[c] = append(r.blocks[c], ids...)
		other.blocks[c] = nil
	}
}

// Left counts the blocks of a group's form that are still in stock.
func (r *Reservation) Left(group int, form quant.KVForm) int {
	return len(r.blocks[r.pool.classOf[groupForm{group, form}]])
}

// take removes a block from the stock; running out of what was reserved is a
// mistake in the plan.
func (r *Reservation) take(group int, form quant.KVForm) BlockID {
	c := r.pool.classOf[groupForm{group, form}]
	n := len(r.blocks[c])
	if n == 0 {
		panic("kv: reservation of " + form.String() + " blocks exhausted")
	}
	id := r.blocks[c][n-1]
	r.blocks[c] = r.blocks[c][:n-1]
	return id
}

// giveBack frees one block of a group's form, if any is left.
func (r *Reservation) giveBack(group int, form quant.KVForm) {
	c := r.pool.classOf[groupForm{group, form}]
	n := len(r.blocks[c])
	if n == 0 {
		return
	}
	id := r.blocks[c][n-1]
	r.blocks[c] = r.blocks[c][:n-1]
	r.pool.mu.Lock()
	r.pool.moveLocked(id, free)
	r.pool.mu.Unlock()
}

// Return gives every block that is left back to the pool.
func (r *Reservation) Return() {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.returnLocked()
}

func (r *Reservation) returnLocked() {
	for c, ids := range r.blocks {
		for _, id := range ids {
			r.pool.moveLocked(id, free)
		}
		r.blocks[c] = nil
	}
}
