package imports_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stint-dev/stint"
	imports "github.com/stint-dev/stint/import"
)

// emptyRedis returns the URL of a Redis database that is empty now, and after the test.
func emptyRedis(t *testing.T) string {
	t.Helper()
	url := os.Getenv("STINT_REDIS_URL")
	if url == "" {
		t.Skip("set STINT_REDIS_URL to the URL of an empty Redis database: .ci/redis starts one")
	}
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	r := redis.NewClient(opt)
	if n, err := r.DBSize(t.Context()).Result(); err != nil || n > 0 {
		r.Close()
		t.Fatalf("the database of STINT_REDIS_URL has %d keys (%v): want an empty one, which the test clears", n, err)
	}
	t.Cleanup(func() {
		if err := r.FlushDB(context.Background()).Err(); err != nil {
			t.Error(err)
		}
		r.Close()
	})
	return url
}

// The tasks that asynq's own client enqueued, and its server worked and left, become runs, once.
func TestAsynq(t *testing.T) {
	url := emptyRedis(t)
	opt, err := asynq.ParseRedisURI(url)
	if err != nil {
		t.Fatal(err)
	}
	c := asynq.NewClient(opt)
	defer c.Close()
	enqueue := func(kind string, payload []byte, opts ...asynq.Option) {
		t.Helper()
		if _, err := c.Enqueue(asynq.NewTask(kind, payload), opts...); err != nil {
			t.Fatal(err)
		}
	}
	mail := func(to string) []byte {
		b, _ := json.Marshal(email{to}) // a struct of a text: it cannot fail
		return b
	}
	enqueue("email", mail("fails"), asynq.Queue("worked"), asynq.MaxRetry(3))
	workAsynq(t, opt)
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	enqueue("email", mail("ann"))
	enqueue("email", mail("bob"), asynq.Queue("slow"), asynq.ProcessAt(later), asynq.Deadline(later.Add(time.Hour)))
	enqueue("email", mail("grouped"), asynq.Group("g"))
	enqueue("email", mail("named"), asynq.Queue("critical"), asynq.TaskID("mine"))
	enqueue("raw", []byte{0, 255, '{'})
	enqueue("cleanup", nil)

	open, err := imports.OpenAsynq(url)
	from, s := opened(t, open, err), newStage(t)
	refuses(t, s, from, "cleanup")
	notBytes := &imports.Mapping{Kinds: map[string]imports.Target{"email": {Task: "send-mail"}, "cleanup": {Skip: true}, "raw": {Task: "raw"}}}
	if _, err := imports.Import(t.Context(), from, notBytes, imports.Options{}, s.Client); err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("import of bytes as JSON: %v", err)
	}
	s.imported(t, from, imports.Options{}, 6, 0)
	s.imported(t, from, imports.Options{}, 0, 6)

	runs := s.byRecipient(t)
	bob, fails := runs["bob"], runs["fails"]
	if bob.State != stint.StateScheduled || !bob.Scheduled.Equal(later) || bob.Queue != "patient" || bob.Metadata["deadline"] == "" {
		t.Errorf("the scheduled task became %+v; want it at %v", bob, later)
	}
	if fails.State != stint.StateScheduled || fails.Metadata["attempts"] != "1 of 4" {
		t.Errorf("the task that failed once became %+v", fails)
	}
	if runs["named"].Queue != "critical" || runs["named"].Metadata["imported"] != "asynq mine" || runs["grouped"].Metadata["group"] != "g" {
		t.Errorf("the task with an ID and that of a group became %+v and %+v", runs["named"], runs["grouped"])
	}
	s.works(t, "ann", "grouped", "named")
	if got := <-s.bytes; !bytes.Equal(got, []byte{0, 255, '{'}) {
		t.Errorf("the task of bytes gets %v", got)
	}
}

// workAsynq runs asynq's server until its handler has failed once.
func workAsynq(t *testing.T, opt asynq.RedisConnOpt) {
	t.Helper()
	failed := make(chan struct{}, 1)
	server := asynq.NewServer(opt, asynq.Config{Concurrency: 1, Queues: map[string]int{"worked": 1}, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
		ErrorHandler:   asynq.ErrorHandlerFunc(func(context.Context, *asynq.Task, error) { failed <- struct{}{} })})
	err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return errNoMail }))
	if err != nil {
		t.Fatal(err)
	}
	<-failed
	server.Shutdown()
}
