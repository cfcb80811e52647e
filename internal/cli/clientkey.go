package cli

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/access"
)

const clientKeyHelp = `
Makes a gateway key for a client, and prints it once, on standard output, with
the client block that goes into the global option controlm of the Caddyfile.
The block holds the key's hash only: the key itself is nowhere kept, so hand it
to the client now. It opens this gateway, and nothing at Control-M.

In logs the key goes by the name that stands behind the hash: the day, and the
first digits of the hash. Any other name will do.

To roll a key, add a second key_sha256 line to the client, and take the old one
out when nobody shows it any more.`

const clientKeyExample = `  ctmgate client-key nightly

  The client then calls with:
    curl -H "Authorization: Bearer $KEY" https://gateway.example.com/automation-api/config/servers`

// clientName is what a config takes as the name of a client.
var clientName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

func buildClientKey(cmd *cobra.Command) {
	cmd.Long = clientKeyHelp
	cmd.Example = clientKeyExample
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || !clientName.MatchString(args[0]) {
			return usagef("expected the client's name, as in `ctmgate client-key nightly`: letters, digits and the characters -_.")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key := access.NewKey()
		sum := access.HashKey(key)
		hash := hex.EncodeToString(sum[:])
		// The day alone would name two keys of one day alike in the audit log.
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n\nclient %s {\n\tkey_sha256 %s made-%s-%s\n\tallow read_only\n}\n",
			key, args[0], hash, time.Now().UTC().Format(time.DateOnly), hash[:4])
		return err
	}
}
