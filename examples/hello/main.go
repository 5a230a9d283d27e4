package main

import (
	"context"
	"fmt"
	"log"

	"github.com/stint-dev/stint"
)

func greet(ctx context.Context, name string) (string, error) {
	return "hello, " + name, nil // it may fail, panic or take a week: it is retried, and survives restarts
}

func main() {
	client, err := stint.Open("hello.db")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() // waits for running handlers first
	hello := stint.NewTask(client, "greet", greet, stint.WithRetries(3))

	worker, err := client.NewWorker()
	if err != nil {
		log.Fatal(err)
	}
	go worker.Run(context.Background())

	out, err := hello.Run(context.Background(), "gopher") // stores a run in hello.db and waits for it; Enqueue does not wait
	fmt.Println(out, err)
}
