package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	// aim is the most that the gateway may cost, as a part of what reverse_proxy costs.
	aim = 0.75
	// coarse is the CPU time of a phase below which the 10 ms steps of /proc make more than 2 %.
	coarse = 500 * time.Millisecond
)

// report is everything that was measured.
type report struct {
	options options
	phases  map[string][]phase
	others  float64 // part of the machine's CPU time that went to anything but the comparison
}

// ratios are CPU per request of the gateway over that of reverse_proxy, one for each pair of neighbours in A B B A.
// A phase too short for its CPU time to be seen makes none.
func (r *report) ratios() []float64 {
	var all []float64
	for i, p := range r.phases[controlm] {
		if other := r.phases[reverseProxy][i]; p.cpu > 0 && other.cpu > 0 {
			all = append(all, float64(p.cpuPerRequest())/float64(other.cpuPerRequest()))
		}
	}
	return all
}

// print writes the table and the ratio.
func (r *report) print(out io.Writer) error {
	upstream := "plain HTTP"
	if r.options.tls {
		upstream = "TLS"
	}
	fmt.Fprintf(out, "%d requests, %d connections, %d rounds of %v, upstream over %s with HTTP/1.1; medians\n",
		r.options.requests, r.options.connections, r.options.rounds, round, upstream)
	fmt.Fprintf(out, "%s/%s, %d CPUs, of which others took %.0f %%\n\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), 100*max(r.others, 0))
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tCPU µs/req\tfrom–to\treq/s\tp50 µs\tadded\tp50 alone µs\tadded\t")
	tooShort := false
	for _, name := range []string{direct, respond, reverseProxy, controlm} {
		phases := r.phases[name]
		cpu, span := "–", "–"
		if name != direct {
			each := of(phases, phase.cpuPerRequest)
			cpu = micros(median(each))
			span = micros(slices.Min(each)) + "–" + micros(slices.Max(each))
			tooShort = tooShort || name != respond && median(of(phases, func(p phase) time.Duration { return p.cpu })) < coarse
		}
		many, alone := r.added(name, func(p phase) time.Duration { return p.many.p50() }),
			r.added(name, func(p phase) time.Duration { return p.alone.p50() })
		rate := median(of(phases, func(p phase) float64 { return p.many.perSecond() }))
		fmt.Fprintf(table, "%s\t%s\t%s\t%.0f\t%s\t%s\t\n", name, cpu, span, rate, many, alone)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return r.verdict(out, tooShort)
}

// added is the median of a latency, and how much of it is more than the upstream's own.
func (r *report) added(name string, latency func(phase) time.Duration) string {
	own := median(of(r.phases[name], latency))
	if name == direct || name == respond {
		return micros(own) + "\t–"
	}
	return micros(own) + "\t" + micros(own-median(of(r.phases[direct], latency)))
}

func (r *report) verdict(out io.Writer, tooShort bool) error {
	ratios := r.ratios()
	if len(ratios) == 0 {
		_, err := fmt.Fprintln(out, "\nno ratio: too few requests for their CPU time to be seen")
		return err
	}
	if tooShort {
		fmt.Fprintln(out, "\nthe phases were short: CPU time comes in steps of 10 ms, so raise -requests")
	}
	ratio, verdict := median(ratios), "kept"
	switch {
	case tooShort:
		verdict = "not judged"
	case ratio > aim:
		verdict = "missed"
	}
	_, err := fmt.Fprintf(out, "\nCPU %s / %s: %.2f (%d pairs, %.2f–%.2f); the aim of at most %.2f is %s\n",
		controlm, reverseProxy, ratio, len(ratios), slices.Min(ratios), slices.Max(ratios), aim, verdict)
	return err
}

// of applies f to each phase.
func of[T any](phases []phase, f func(phase) T) []T {
	all := make([]T, len(phases))
	for i, p := range phases {
		all[i] = f(p)
	}
	return all
}

// median is the middle value, of an even number of them the mean of the two in the middle. There is at least one.
func median[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }
