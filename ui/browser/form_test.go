package browser

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// The form that starts a run sends the digits that were typed.
func TestTypedDigits(t *testing.T) {
	type order struct {
		ID, Count int64
		Price     float64
		Name      string
	}
	c, err := stint.Open(filepath.Join(t.TempDir(), "form.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stint.NewTask(c, "ship", func(context.Context, order) (int, error) { return 0, nil })
	s := httptest.NewServer(ui.Handler(c, ui.WithLocalAccess()))
	defer s.Close()
	defer s.CloseClientConnections() // of pages that stay open
	b := opened(t, 1440, "light")
	field := func(name string) string { return `form[data-compose] [data-field="` + name + `"]` }
	b.do(t, chromedp.Navigate(s.URL+"/tasks/ship"), chromedp.WaitReady("form[data-compose]"),
		chromedp.SendKeys(field("ID"), "9007199254740993"), chromedp.SendKeys(field("Count"), "1e3"), chromedp.SendKeys(field("Price"), "1.50"), chromedp.SendKeys(field("Name"), "a \"b\""),
		chromedp.Click("form[data-compose] button"), chromedp.WaitNotPresent("form[data-compose]"))
	page, err := c.ListRuns(t.Context(), stint.RunFilter{})
	if err != nil || len(page.Runs) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	if got, want := string(page.Runs[0].Input), `{"Count":1000,"ID":9007199254740993,"Name":"a \"b\"","Price":1.50}`; got != want {
		t.Errorf("the input is %s, want %s", got, want)
	}
}
