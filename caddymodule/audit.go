package caddymodule

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// auditMessage is the message of every line of the audit log.
const auditMessage = "call"

// audit writes the one line of a request: who asked for what, as whom, what
// was decided, and how it ended. It holds no query and no header, and of the
// path nothing that is a secret.
func (h *Handler) audit(v *visit) {
	c := h.auditLog.Check(zapcore.InfoLevel, auditMessage)
	if c == nil {
		return
	}
	decision := "denied"
	if v.allowed {
		decision = "allowed"
	}
	key := ""
	if v.who.key != nil {
		key = v.who.key.Name
	}
	c.Write(
		zap.String("request_id", v.id),
		zap.String("client", v.client()),
		zap.String("key", key),
		zap.String("user", authenticatedUser(v.r)),
		zap.String("proof", v.who.source),
		zap.String("source", v.source()),
		zap.String("environment", h.env.name),
		zap.String("account", v.accountName()),
		zap.String("method", v.r.Method),
		zap.String("path", v.shown),
		zap.String("operation", v.operation()),
		zap.String("decision", decision),
		zap.String("rule", v.rule),
		zap.Int("status", v.w.Status),
		zap.String("code", v.code),
		zap.Bool("replayed", v.replays > 0),
		zap.Duration("duration", time.Since(v.begun)),
	)
}

// auditProbes is how many lines a log must take in a row not to count as one
// that samples.
const auditProbes = 20_000

// warnUnaudited tells the operator when no log would write every audit line:
// then nobody could say afterwards who did what. Where no log takes the
// warning either, it goes to standard error.
func warnUnaudited(audit, logger *zap.Logger) {
	for range auditProbes {
		// Checked and never written.
		if audit.Check(zapcore.InfoLevel, auditMessage) != nil {
			continue
		}
		const text = "no log takes all lines of the audit log controlm.audit; let one include it at level INFO, without `sampling`, " +
			"as in the three lines `log audit {`, `include controlm.audit` and `}`"
		if c := logger.Check(zapcore.WarnLevel, text); c != nil {
			c.Write()
		} else {
			fmt.Fprintln(os.Stderr, "ctmgate: warning: "+text)
		}
		return
	}
}
