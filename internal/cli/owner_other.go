//go:build !unix

package cli

import "os"

// ownedByUs: elsewhere the folder for temporary files is the user's own.
func ownedByUs(os.FileInfo) bool { return true }
