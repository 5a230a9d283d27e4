package cel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"sync"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
)

// A task that is defined as data is worked by a function over JSON.
func Example_tasksAsData() {
	c, err := stint.Open(":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithCancel(context.Background())
	_, err = c.Define(ctx, stint.Definition{Name: "thumbnail", TaskOptions: stint.TaskOptions{
		Retries:     3,
		Concurrency: []stint.ConcurrencySpec{{Key: "input.user", Max: 2}},
	}})
	if err != nil {
		log.Fatal(err)
	}

	w, err := c.NewWorker(stint.WithTasks("thumbnail"), stint.WithHandler(func(ctx context.Context, input []byte) ([]byte, error) {
		info, _ := stint.Info(ctx)
		return fmt.Appendf(nil, `{"task":%q,"of":%s}`, info.Task, input), nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { w.Run(ctx) })
	defer work.Wait()
	defer stop()

	run, err := c.EnqueueJSON(ctx, "thumbnail", json.RawMessage(`{"user":"ann"}`))
	if err != nil {
		log.Fatal(err)
	}
	out, err := run.Wait(ctx)
	fmt.Println(string(out), err)
	// Output: {"task":"thumbnail","of":{"user":"ann"}} <nil>
}
