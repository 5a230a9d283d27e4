package main

import (
	"context"
	"fmt"
	"log"

	"github.com/stint-dev/stint"
)

func greet(ctx context.Context, name string) (string, error) {
	return "hello, " + name, nil // may fail, panic or take a week: it is retried, and survives a restart
}

func main() {
	client, err := stint.Open("hello.db")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() // drains the worker first
	hello := stint.NewTask(client, "greet", greet, stint.WithRetries(3))

	worker, err := client.NewWorker()
	if err != nil {
		log.Fatal(err)
	}
	go worker.Run(context.Background())

	out, err := hello.Run(context.Background(), "gopher") // a row in hello.db; Enqueue does not wait
	fmt.Println(out, err)
}
