package guard

import (
	"runtime"
	"sync"
)

// Unwinding reports whether the caller runs in a deferred function that a panic, or a call of
// runtime.Goexit, has called, even if that function has recovered the panic. It costs less than a
// microsecond.
func Unwinding() bool {
	unwinds := unwinders()
	var pcs [64]uintptr
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		for _, pc := range pcs[:n] {
			if pc == unwinds[0] || pc == unwinds[1] {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// unwinders are the addresses from which the runtime calls deferred functions, for a panic and
// for runtime.Goexit. Each loops over one call, so a stack with that address is in it. Comparing
// addresses is many times cheaper than looking up names.
var unwinders = sync.OnceValue(func() (at [2]uintptr) {
	var wg sync.WaitGroup
	for i, unwind := range []func(){func() { panic("to see from where deferred functions are called") }, runtime.Goexit} {
		wg.Go(func() {
			defer func() {
				var pcs [8]uintptr
				runtime.Callers(2, pcs[:]) // 0 and 1 are Callers and this function
				at[i] = pcs[0]
				recover()
			}()
			unwind()
		})
	}
	wg.Wait()
	return at
})
