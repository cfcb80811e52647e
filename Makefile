# Thin: each target is one line that a person could type.
.PHONY: test ci lint bench soak image vulncheck

test:
	go test ./...

# Everything that a change must pass; `bash .ci/run lint` for one stage.
ci:
	bash .ci/run

lint:
	bash .ci/run lint

# Figures for comparing before and after, on a quiet machine: see bench/README.md.
bench:
	go test -run '^$$' -bench . -benchmem -count 6 ./...

# A minute of steady calls over renewals, then the race detector again and again, for what happens once in a hundred runs.
soak:
	CTMGATE_SOAK=1 go test -race -count 20 -timeout 90m ./...

image:
	docker build -f docker/Dockerfile -t ctmgate .

# Asks the Go vulnerability database, so it needs a network that reaches it.
vulncheck:
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...
