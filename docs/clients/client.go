//go:build ignore

// A Go program as an example: it logs in, calls, and follows the URLs of the
// answers. Behind ctmgate only the endpoint is another:
//
//	go run docs/clients/client.go http://127.0.0.1:8080/automation-api
//
// Where the gateway has clients, the variables user and passwd have a client's
// name and key.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var client = &http.Client{Timeout: 30 * time.Second}

// call sends body, if any, as JSON, and reads the answer into out.
func call(method, url, token, body string, out any) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		log.Fatalf("%s %s: %s: %s (%v)", method, url, res.Status, content, err)
	}
	if text, ok := out.(*string); ok {
		*text = string(content)
	} else if err := json.Unmarshal(content, out); err != nil {
		log.Fatal(err)
	}
}

// variable is not looked at behind a sidecar.
func variable(name, other string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return other
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("expected the endpoint of the API")
	}
	endpoint := os.Args[1]
	var login struct{ Username, Token, Version string }
	call("POST", endpoint+"/session/login", "", fmt.Sprintf(`{"username":%q,"password":%q}`, variable("user", "anybody"), variable("passwd", "none")), &login)
	fmt.Println("logged in: API", login.Version)

	var servers []struct{ Name string }
	call("GET", endpoint+"/config/servers", login.Token, "", &servers)
	fmt.Println("servers:", servers)

	var run struct{ StatusURI string }
	call("POST", endpoint+"/run/order", login.Token, `{"ctm":"ctmtest","folder":"SmokeTest"}`, &run)
	var page struct {
		NextURI  string
		Statuses []struct{ Name, LogURI string }
	}
	call("GET", run.StatusURI, login.Token, "", &page)
	var text string
	call("GET", page.Statuses[0].LogURI, login.Token, "", &text)
	if !strings.Contains(text, "ORDERED JOB:SayHello") {
		log.Fatal(text)
	}
	fmt.Println("ordered: statusURI and logURI lead back here")

	pages := 0
	for next := endpoint + "/run/jobs/status?limit=4&ctm=ctmprod&jobname=*"; next != ""; pages++ {
		page.NextURI = ""
		call("GET", next, login.Token, "", &page)
		next = page.NextURI
	}
	fmt.Println("pages:", pages)

	call("POST", endpoint+"/session/logout", login.Token, "", &text)
	fmt.Println("logged out")
}
