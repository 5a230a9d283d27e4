package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	openedIssue = `{"action":"opened","issue":{"number":42,"title":"It does not start","user":{"login":"ada"}},` +
		`"repository":{"full_name":"ada/engine"},"sender":{"login":"ada"}}`
	paidOrder = `{"id":"evt_1Nf2","object":"event","api_version":"2024-06-20","type":"payment_intent.succeeded",` +
		`"data":{"object":{"id":"pi_3Nf2","object":"payment_intent","amount":2000,"currency":"nok","metadata":{"order":"7"}}}}`
)

func signature(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// sendAll places an order, then sends webhooks as GitHub and Stripe would: an issue, twice, as
// after a lost answer; a payment; and a forged payment.
func sendAll(ctx context.Context, base string, out io.Writer) error {
	now := fmt.Sprint(time.Now().Unix())
	github := http.Header{"X-Github-Event": {"issues"}, "X-Github-Delivery": {"72d3162e-" + now},
		"X-Hub-Signature-256": {"sha256=" + signature(githubSecret, openedIssue)}}
	stripe := func(secret string) http.Header {
		return http.Header{"Stripe-Signature": {"t=" + now + ",v1=" + signature(secret, now+"."+paidOrder)}}
	}
	for _, m := range []struct {
		what, path, body string
		header           http.Header
	}{
		{"an order", "/orders/7", "", nil},
		{"an issue", "/hooks/github", openedIssue, github},
		{"the same delivery", "/hooks/github", openedIssue, github},
		{"a payment", "/hooks/stripe", paidOrder, stripe(stripeSecret)},
		{"a forged payment", "/hooks/stripe", paidOrder, stripe("a guess")},
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+m.path, strings.NewReader(m.body))
		if err != nil {
			return err
		}
		for k, v := range m.header {
			req.Header[k] = v
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %s %s\n", m.what, resp.Status, strings.TrimSpace(string(answer)))
	}
	return nil
}
