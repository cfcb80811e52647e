package archtest

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// graph is what the checker looks at: for each package, by its path below the module, the files outside its tests.
type graph map[string][]file

type file struct {
	name    string
	imports []string
	inits   int
}

// check holds g against the law and returns one sentence for each breach, sorted.
func check(g graph, law map[string]row, soleImporters, soleInits map[string]string) []string {
	var breaches []string
	for pkg, files := range g {
		r, known := law[pkg]
		if !known {
			breaches = append(breaches, fmt.Sprintf(
				"%s has no row in the import law: say in internal/archtest/law_test.go what it may import", pkg))
			continue
		}
		for _, f := range files {
			for _, imported := range f.imports {
				if reason := forbidden(pkg, imported, r, soleImporters); reason != "" {
					breaches = append(breaches, fmt.Sprintf("%s/%s imports %s: %s", pkg, f.name, imported, reason))
				}
			}
			if sole, ok := soleInits[pkg]; ok && f.inits > 0 && f.name != sole {
				breaches = append(breaches, fmt.Sprintf("%s/%s has an init function: it belongs in %s", pkg, f.name, sole))
			}
		}
	}
	slices.Sort(breaches)
	return breaches
}

// forbidden says why pkg may not import the path, or nothing.
func forbidden(pkg, imported string, r row, soleImporters map[string]string) string {
	for library, sole := range soleImporters {
		if within(imported, library) && pkg != sole {
			return "only " + sole + " does"
		}
	}
	local, ours := strings.CutPrefix(imported, module+"/")
	for _, banned := range r.never {
		if within(local, banned) {
			return "its row says never"
		}
	}
	switch {
	case ours:
		if slices.Contains(r.ours, anyOurs) || slices.Contains(r.ours, local) {
			return ""
		}
	case imported == "C":
		return "the binary is static"
	case standard(imported):
		return ""
	default:
		if slices.ContainsFunc(r.foreign, func(library string) bool { return within(imported, library) }) {
			return ""
		}
	}
	return "its row does not name it"
}

// standard tells the standard library by the go command's own rule: its first element has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// within reports whether the path is prefix or lies below it.
func within(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

// read walks the tree below root, leaving out what the go command leaves out: testdata, names that begin with a dot or
// an underscore, and modules of their own. It reads files for every platform, so that a law broken on Windows alone is
// broken here too.
func read(root string) (graph, error) {
	g := graph{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name == root {
				return nil
			}
			if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, counts, err := parse(base, source)
		if err != nil || !counts {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		pkg := path.Clean(filepath.ToSlash(folder))
		g[pkg] = append(g[pkg], f)
		return nil
	})
	return g, err
}

// parse reads one file. A file under `//go:build ignore` is a script that happens to lie there, and does not count.
func parse(name string, source []byte) (f file, counts bool, err error) {
	tree, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, false, fmt.Errorf("parsing %s: %w", name, err)
	}
	for _, group := range tree.Comments {
		for _, comment := range group.List {
			if comment.Pos() < tree.Package && constraint.IsGoBuild(comment.Text) {
				if strings.TrimSpace(strings.TrimPrefix(comment.Text, "//go:build")) == "ignore" {
					return file{}, false, nil
				}
			}
		}
	}
	f.name = name
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, false, fmt.Errorf("reading an import of %s: %w", name, err)
		}
		f.imports = append(f.imports, imported)
	}
	for _, declaration := range tree.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
			f.inits++
		}
	}
	return f, true, nil
}

// replaced returns the lines of a go.mod that belong to a replace directive.
func replaced(gomod string) []string {
	var found []string
	block := false
	for line := range strings.Lines(gomod) {
		code, _, _ := strings.Cut(line, "//")
		fields := strings.Fields(code)
		switch {
		case len(fields) == 0:
		case block && fields[0] == ")":
			block = false
		case block:
			found = append(found, strings.TrimSpace(line))
		case fields[0] == "replace" || strings.HasPrefix(fields[0], "replace("):
			block = strings.HasSuffix(strings.TrimSpace(code), "(")
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// unused returns what the law names of ours and has no row: a typing error there would allow nothing, in silence.
func unused(law map[string]row) []string {
	var found []string
	for _, pkg := range slices.Sorted(maps.Keys(law)) {
		for _, named := range law[pkg].ours {
			if _, known := law[named]; !known && named != anyOurs {
				found = append(found, pkg+" names "+named)
			}
		}
	}
	return found
}
