// Package archtest holds the import law of the project as data and fails the tests when it is broken: which package may
// import what, who alone may import a library, and where an init function may stand. It has no code besides its tests.
//
// A new package fails until it has a row in law_test.go. That is on purpose: the row is where its author says on which
// floor it lives.
package archtest
