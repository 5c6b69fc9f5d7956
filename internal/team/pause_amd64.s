//go:build !noasm

#include "textflag.h"

// func pause()
//
// PAUSE says that this is a spin loop: the core saves power, leaves a
// hyperthread beside it more room, and does not speculate past the load that
// ends the wait. Go has no name for it.
TEXT ·pause(SB), NOSPLIT, $0-0
	PAUSE
	RET
