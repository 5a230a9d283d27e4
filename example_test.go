package stint_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/stint-dev/stint"
)

func greet(_ context.Context, name string) (string, error) { return "hello, " + name, nil }

// A task is a function of yours; Run stores a run of it and waits for the worker.
func Example() {
	c, err := stint.Open(":memory:") // or a file: "app.db"
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	hello := stint.NewTask(c, "greet", greet, stint.WithRetries(3))

	w, err := c.NewWorker()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { w.Run(ctx) })
	defer work.Wait()
	defer stop() // defers run upwards: stop, wait, close

	out, err := hello.Run(ctx, "gopher")
	fmt.Println(out, err)
	// Output: hello, gopher <nil>
}
