package emulator

import "time"

// jobSpec is one job of a folder. Jobs of a folder run one after the other.
type jobSpec struct {
	name    string
	kind    string // as in "Type": "Job:Command"
	host    string
	command string
	runs    time.Duration
	fails   bool // Ended Not OK at its first run
	confirm bool // waits for POST /run/job/{id}/confirm
}

type folder struct {
	name        string
	server      string
	application string
	jobs        []jobSpec
}

const (
	// A job waits this long for a reason, then runs: long enough to be seen in
	// either state, short enough to watch.
	waitTime = time.Second
	runTime  = 2 * time.Second
)

// seedFolders exist from the start. Those of ctmprod have run this night.
func seedFolders() []folder {
	return []folder{
		{name: "NightlyBilling", server: "ctmprod", application: "Billing", jobs: []jobSpec{
			{name: "ExtractUsage", kind: "Command", host: "billing-app1", command: "extract_usage.sh", runs: runTime},
			{name: "RateCalls", kind: "Command", host: "billing-app1", command: "rate_calls.sh", runs: runTime},
			{name: "PrintInvoices", kind: "Script", host: "billing-app2", command: "print_invoices.sh", runs: runTime},
			{name: "ArchiveInvoices", kind: "FileTransfer", host: "billing-app2", command: "archive_invoices", runs: runTime},
		}},
		{name: "WarehouseLoad", server: "ctmprod", application: "Warehouse", jobs: []jobSpec{
			{name: "LandSalesFiles", kind: "FileWatcher:Create", host: "ledger-db1", command: "/data/sales", runs: runTime},
			{name: "LoadSales", kind: "Database:EmbeddedQuery", host: "ledger-db1", command: "load_sales", runs: runTime},
		}},
		{name: "MonthEnd", server: "ctmprod", application: "Ledger", jobs: []jobSpec{
			{name: "FreezeLedgers", kind: "Command", host: "ledger-db1", command: "freeze.sh", runs: runTime},
			{name: "ReconcileLedgers", kind: "Command", host: "ledger-db1", command: "reconcile.sh", runs: runTime, fails: true},
			{name: "PublishBalance", kind: "Command", host: "ledger-db1", command: "publish.sh", runs: runTime},
		}},
		{name: "SmokeTest", server: "ctmtest", application: "Test", jobs: []jobSpec{
			{name: "SayHello", kind: "Command", host: "test-app1", command: "echo hello", runs: runTime},
		}},
		{name: "AlwaysFails", server: "ctmtest", application: "Test", jobs: []jobSpec{
			{name: "Fail", kind: "Command", host: "test-app1", command: "false", runs: runTime, fails: true},
		}},
		{name: "NeedsConfirmation", server: "ctmtest", application: "Test", jobs: []jobSpec{
			{name: "AskFirst", kind: "Command", host: "test-app1", command: "echo go", runs: runTime, confirm: true},
		}},
	}
}

// definition prints a folder as GET /deploy/folders does: jobs as code.
func (f *folder) definition() map[string]any {
	d := map[string]any{"Type": "Folder", "ControlmServer": f.server, "Application": f.application}
	for _, j := range f.jobs {
		d[j.name] = j.definition()
	}
	return d
}

func (j *jobSpec) definition() map[string]any {
	d := map[string]any{"Type": "Job:" + j.kind, "Host": j.host, "RunAs": "ctmagent", "Command": j.command}
	if j.confirm {
		d["Confirm"] = true
	}
	return d
}
