package stint_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/stint-dev/stint"
)

func ExampleWaitFor() {
	c, err := stint.Open(":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	approve := stint.NewTask(c, "approve", func(ctx context.Context, order int) (string, error) {
		fired, err := stint.WaitFor(ctx, stint.AnyOf(
			stint.AllOf(stint.UserEvent("legal"), stint.UserEvent("finance")),
			stint.Named("too late", stint.SleepFor(24*time.Hour))))
		if err != nil {
			return "", err
		}
		if _, late := fired["too late"]; late {
			return "expired", nil
		}
		return fmt.Sprintf("approved: %s, %s", fired["legal"], fired["finance"]), nil
	})
	run, err := approve.Enqueue(context.Background(), 7)
	if err != nil {
		log.Fatal(err)
	}
	for key, by := range map[string]string{"legal": "Ann", "finance": "Bob"} {
		if _, err := c.Publish(context.Background(), key, by); err != nil {
			log.Fatal(err)
		}
	}
	w, err := c.NewWorker()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	fmt.Println(run.Wait(context.Background()))
	stop()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output: approved: "Ann", "Bob" <nil>
}
