//go:build race

package cli

// raceDetector: the program under test is built as the tests are.
const raceDetector = true
