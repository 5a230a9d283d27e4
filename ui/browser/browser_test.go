// Package browser tests the web page in a real browser. It is a module of its own, so that
// who uses the library does not get a browser's driver.
package browser

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// A browser is one tab.
type browser struct {
	context.Context
}

// opened starts a headless Chromium, which ends with the test.
func opened(t *testing.T, wide int64, scheme string) *browser {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Fatal("no Chromium: apt-get install chromium, or set CHROMIUM to its path")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{ctx}
	if err := chromedp.Run(ctx); err != nil { // starts it; a later context that ends must not end it
		t.Fatal(err)
	}
	b.do(t, emulation.SetDeviceMetricsOverride(wide, 900, 1, wide < 500),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
	return b
}

// patience is after how long what does not come to be is taken for stuck. It is far above what a
// machine with much other work needs.
const patience = 5 * time.Minute

// do runs actions, which must succeed.
func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.Context, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval is what a JavaScript expression comes to.
func eval[T any](t *testing.T, b *browser, js string) (v T) {
	t.Helper()
	b.do(t, chromedp.Evaluate(js, &v))
	return v
}
