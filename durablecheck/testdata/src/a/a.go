package a

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/stint-dev/stint"
)

func work(context.Context) (int, error) { return 0, nil }

func clock(ctx context.Context) error { // want clock:"durable"
	if time.Now().Hour() > 12 { // want `time.Now in a durable function: .* use stint.Now`
		_, err := stint.Step(ctx, "noon", work)
		return err
	}
	_, err := stint.Step(ctx, "charge", func(context.Context) (int, error) { return time.Now().Year(), nil })
	fmt.Println(time.Now()) // decides no durable call
	return err
}

func inLoop(ctx context.Context) { // want inLoop:"durable"
	for range 3 {
		stint.Sleep(ctx, time.Second)
		if time.Since(stint.Now(ctx)) > time.Minute { // want `time.Since in a durable function`
			return
		}
	}
}

func random(ctx context.Context) error { // want random:"durable"
	d := time.Duration(rand.IntN(10)) // want `rand.IntN in a durable function: .* use a step`
	return stint.Sleep(ctx, d)
}

func maps(ctx context.Context, m map[string]int) { // want maps:"durable"
	for k := range m { // want `durable calls in a range over a map`
		stint.Step(ctx, k, work)
	}
	sum := 0
	for _, v := range m { // no durable call
		sum += v
	}
	for _, k := range []string{"a", "b"} {
		stint.Step(ctx, k, work)
	}
}

func goroutines(ctx context.Context, c chan int) { // want goroutines:"durable"
	go fmt.Println() // want `go statement in a durable function`
	select {         // want `select in a durable function`
	case <-c:
	default:
	}
	f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
		time.Sleep(time.Second) // want `time.Sleep in a durable function: .* use stint.Sleep`
		return stint.Step(ctx, "in", work)
	})
	f.Wait(ctx)
	select {
	case <-c:
	default:
	}
}

func defers(ctx context.Context, f *os.File) error { // want defers:"durable"
	defer f.Close()
	defer os.Remove("lock")             // want `os.Remove in a defer of a durable function: .* memory only`
	defer stint.Sleep(ctx, time.Second) // want `stint.Sleep in a defer of a durable function`
	defer func() {
		http.Get("http://localhost/undo") // want `http.Get in a defer`
		fmt.Println("done")
	}()
	stint.Compensate(ctx, "undo", func(context.Context) error { return os.Remove("lock") })
	_, err := stint.Step(ctx, "a", work)
	return err
}

type box struct {
	mu sync.Mutex
	rw sync.RWMutex
	n  int
}

func (b *box) locks(ctx context.Context) { // want locks:"durable"
	b.mu.Lock()
	stint.Step(ctx, "a", work) // want `stint.Step while b.mu is locked`
	b.mu.Unlock()
	b.rw.RLock()
	b.n++
	b.rw.RUnlock()
	stint.Sleep(ctx, time.Hour)
	b.rw.Lock()
	defer b.rw.Unlock()
	stint.Sleep(ctx, time.Hour) // want `stint.Sleep while b.rw is locked`
}

func nested(ctx context.Context) { // want nested:"durable"
	stint.Step(ctx, "outer", func(ctx context.Context) (int, error) {
		return stint.Step(ctx, "inner", work) // want `stint.Step inside a step`
	})
	stint.Step(ctx, "helper", func(ctx context.Context) (int, error) {
		Helper(ctx) // want `Helper inside a step`
		return 0, nil
	})
}

// Helper is durable, and so is what calls it.
func Helper(ctx context.Context) { stint.Sleep(ctx, time.Second) } // want Helper:"durable"

func through(ctx context.Context) { // want through:"durable"
	_ = time.Now() // want `time.Now in a durable function`
	Helper(ctx)
}

func children(ctx context.Context, t *stint.Task[int, int]) { // want children:"durable"
	stint.Sleep(ctx, time.Second)
	_ = time.Now() // want `time.Now in a durable function`
	t.Run(ctx, 1)
}

// A web handler that runs a task is no durable function.
func handler(ctx context.Context, t *stint.Task[int, int]) {
	_ = time.Now()
	go fmt.Println()
	t.Run(ctx, 1)
}

func literal() {
	stint.NewTask("t", func(ctx context.Context, n int) (int, error) {
		_ = time.Now() // want `time.Now in a durable function`
		return n, stint.Sleep(ctx, time.Second)
	})
}
