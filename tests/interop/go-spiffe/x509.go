package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// shortTTL is the lifetime in seconds of the X.509-SVIDs whose rotation is watched.
const shortTTL = 10

func strangersAreRefused(ctx context.Context) {
	_, x509Err := workloadapi.FetchX509SVID(ctx)
	_, bundlesErr := workloadapi.FetchJWTBundles(ctx)
	_, witErr := workloadapi.FetchWITSVID(ctx, "")
	for _, err := range []error{x509Err, bundlesErr, witErr} {
		check(status.Code(err) == codes.PermissionDenied, "without an identity: %v", err)
	}
	ok("no identity: PermissionDenied")
}

// isSound verifies an SVID as a peer would.
func isSound(svid *x509svid.SVID, bundles x509bundle.Source, name string) {
	id, _, err := x509svid.Verify(svid.Certificates, bundles)
	check(err == nil, "the chain: %v", err)
	check(id == idOf(name) && svid.ID == id, "%s instead of %s", id, idOf(name))
}

func itFetchesX509(ctx context.Context, foreign *foreignDomain) {
	fetched := must(workloadapi.FetchX509Context(ctx))
	check(len(fetched.SVIDs) == 1, "%d identities", len(fetched.SVIDs))
	svid := fetched.DefaultSVID()
	isSound(svid, fetched.Bundles, "first")
	check(svid.Hint == "main", "hint %q", svid.Hint)
	left := time.Until(svid.Certificates[0].NotAfter)
	check(0 < left && left <= (shortTTL+1)*time.Second, "%s are left of %d s", left, shortTTL)
	ok("FetchX509SVID: chain, key, hint and lifetime hold")

	bundles := must(workloadapi.FetchX509Bundles(ctx))
	for _, set := range []*x509bundle.Set{fetched.Bundles, bundles} {
		check(set.Len() == 2, "%d bundles", set.Len())
		theirs, _ := set.Get(foreign.domain)
		check(theirs.Equal(foreign.bundle.X509Bundle()), "the federated bundle is another one")
		_, _, err := x509svid.Verify(foreign.newX509SVID(), set)
		check(err == nil, "a federated SVID: %v", err)
	}
	ok("a federated bundle comes with both calls, and verifies a federated SVID")
}

func theSourceRotates(ctx context.Context) {
	source := must(workloadapi.NewX509Source(ctx))
	defer source.Close()
	before := must(source.GetX509SVID())
	var times []time.Time
	for len(times) < 2 {
		waiting, cancel := context.WithTimeout(ctx, shortTTL*time.Second)
		err := source.WaitUntilUpdated(waiting)
		cancel()
		check(err == nil, "no rotation: %v", err)
		after := must(source.GetX509SVID())
		isSound(after, source, "first")
		same := after.Certificates[0].SerialNumber.Cmp(before.Certificates[0].SerialNumber) == 0
		check(!same, "the same certificate is pushed again")
		before, times = after, append(times, time.Now())
	}
	pace := times[1].Sub(times[0])
	check(pace > shortTTL*time.Second/5, "a %d s SVID is replaced every %s", shortTTL, pace)
	ok("X509Source follows the rotation: a %d s SVID is replaced after %.1f s", shortTTL, pace.Seconds())
}

// updates receives what a watched stream brings: *workloadapi.X509Context or error.
type updates chan any

func (u updates) OnX509ContextUpdate(update *workloadapi.X509Context) { u <- update }
func (u updates) OnX509ContextWatchError(err error)                   { u <- err }

// until returns when an update satisfies `expected`, and fails after five seconds.
func (u updates) until(what string, expected func(any) bool) {
	end := time.After(5 * time.Second)
	last := any("nothing")
	for {
		select {
		case last = <-u:
			if expected(last) {
				return
			}
		case <-end:
			check(false, "%s did not come within 5 s, but %v", what, last)
		}
	}
}

func entriesArriveOnTheOpenStream(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := make(updates, 100)
	go workloadapi.WatchX509Context(ctx, stream)
	namesBecome := func(names ...string) {
		stream.until(fmt.Sprint(names), func(update any) bool {
			fetched, _ := update.(*workloadapi.X509Context)
			var seen []string
			for i := 0; fetched != nil && i < len(fetched.SVIDs); i++ {
				seen = append(seen, fetched.SVIDs[i].ID.Path()[1:])
			}
			slices.Sort(seen)
			return slices.Equal(seen, names)
		})
	}

	namesBecome("first")
	createEntry("second")
	namesBecome("first", "second")
	claviger("entry", "delete", "--entry-id", "second")
	namesBecome("first")
	ok("WatchX509Context: entries come and go on the open stream")
	claviger("entry", "delete", "--entry-id", "first")
	stream.until("PermissionDenied", func(update any) bool {
		err, _ := update.(error)
		return status.Code(err) == codes.PermissionDenied
	})
	ok("the last identity gone: the stream ends with PermissionDenied")
}
