// What go-spiffe, SPIFFE's reference client, sees of the Workload API.
//
//	peer story           fetches, watches and verifies; makes and deletes its own entries
//	peer serve NAME      accepts mTLS from spiffe://DOMAIN/NAME and tells each client who it is
//	peer dial ADDR NAME  connects by mTLS to spiffe://DOMAIN/NAME and prints what it is told
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var trustDomain = spiffeid.RequireTrustDomainFromString(os.Getenv("TRUST_DOMAIN"))

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	switch arguments := os.Args[1:]; arguments[0] {
	case "story":
		story(ctx)
	case "serve":
		serve(ctx, idOf(arguments[1]))
	case "dial":
		dial(ctx, arguments[1], idOf(arguments[2]))
	default:
		check(false, "no such command: %s", arguments[0])
	}
}

func story(ctx context.Context) {
	strangersAreRefused(ctx)
	foreign := newForeignDomain()
	foreign.setBundle()
	createEntry("first", "--hint", "main", "--federates-with", foreign.domain.Name(),
		"--x509-svid-ttl", fmt.Sprint(shortTTL))
	itFetchesX509(ctx, foreign)
	theSourceRotates(ctx)
	itFetchesJWT(ctx)
	bothSidesValidateJWT(ctx, foreign)
	itFetchesWIT(ctx)
	entriesArriveOnTheOpenStream(ctx)
}

func idOf(name string) spiffeid.ID { return spiffeid.RequireFromPath(trustDomain, "/"+name) }

// createEntry entitles this process, by user and by the program that it runs.
func createEntry(name string, more ...string) {
	program := must(os.Executable())
	claviger(append([]string{
		"entry", "create", "--wait", "--entry-id", name, "--spiffe-id", idOf(name).String(),
		"--selector", fmt.Sprintf("unix:uid:%d", os.Getuid()), "--selector", "unix:path:" + program,
	}, more...)...)
}

func claviger(arguments ...string) {
	command := exec.Command(os.Getenv("CLAVIGER"), arguments...)
	output, err := command.CombinedOutput()
	check(err == nil, "claviger %v: %v\n%s", arguments, err, output)
}

func ok(format string, values ...any) { fmt.Printf("  ok    "+format+"\n", values...) }

func check(condition bool, format string, values ...any) {
	if !condition {
		fmt.Fprintf(os.Stderr, "  FAIL  "+format+"\n", values...)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
