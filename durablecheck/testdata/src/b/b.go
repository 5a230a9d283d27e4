package b

import (
	"a"
	"context"
	"time"
)

func acrossPackages(ctx context.Context) { // want acrossPackages:"durable"
	_ = time.Now() // want `time.Now in a durable function`
	a.Helper(ctx)
}

func not(ctx context.Context) { _ = time.Now() }
