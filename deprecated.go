package stint

import (
	"github.com/stint-dev/stint/webhook"
)

// Former names of strategies.
const (
	// Deprecated: use StrategyQueue.
	Queue = StrategyQueue
	// Deprecated: use StrategyGroupRoundRobin.
	GroupRoundRobin = StrategyGroupRoundRobin
	// Deprecated: use StrategyCancelInProgress.
	CancelInProgress = StrategyCancelInProgress
	// Deprecated: use StrategyCancelNewest.
	CancelNewest = StrategyCancelNewest
)

// Deprecated: use ProgressInfo.
type Progressed = ProgressInfo

// Deprecated: use webhook.Verifier.
type WebhookVerifier = webhook.Verifier

// Deprecated: use webhook.Tolerance.
const WebhookTolerance = webhook.Tolerance

// Deprecated: use webhook.GitHubSignature.
func GitHubSignature(secret string) WebhookVerifier { return webhook.GitHubSignature(secret) }

// Deprecated: use webhook.StripeSignature.
func StripeSignature(secret string) WebhookVerifier { return webhook.StripeSignature(secret) }

// Deprecated: use webhook.SlackSignature.
func SlackSignature(secret string) WebhookVerifier { return webhook.SlackSignature(secret) }

// Deprecated: use webhook.BasicAuth.
func BasicAuth(user, password string) WebhookVerifier { return webhook.BasicAuth(user, password) }

// Deprecated: use webhook.APIKey.
func APIKey(header, key string) WebhookVerifier { return webhook.APIKey(header, key) }
