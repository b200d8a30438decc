package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/exp/svid/witsvid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const audience = "spiffe://interop.example.org/db"

func itFetchesJWT(ctx context.Context) {
	params := jwtsvid.Params{Audience: audience, ExtraAudiences: []string{"web"}}
	svids := must(workloadapi.FetchJWTSVIDs(ctx, params))
	check(len(svids) == 1 && svids[0].Hint == "main", "%d JWT-SVIDs", len(svids))
	check(slices.Equal(svids[0].Audience, []string{audience, "web"}), "aud %v", svids[0].Audience)

	bundles := must(workloadapi.FetchJWTBundles(ctx))
	check(bundles.Len() == 2, "%d JWT bundles", bundles.Len())
	for _, accepted := range []string{audience, "web"} {
		verified, err := jwtsvid.ParseAndValidate(svids[0].Marshal(), bundles, []string{accepted})
		check(err == nil && verified.ID == idOf("first"), "offline for %s: %v", accepted, err)
		check(time.Until(verified.Expiry) > 0, "expired")
	}
	_, err := jwtsvid.ParseAndValidate(svids[0].Marshal(), bundles, []string{"other"})
	check(err != nil, "a token for another audience is valid")
	ok("FetchJWTSVID and FetchJWTBundles: the token holds offline, for each audience")

	source := must(workloadapi.NewJWTSource(ctx))
	defer source.Close()
	params.Subject = idOf("first")
	svid := must(source.FetchJWTSVID(ctx, params))
	_, err = jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{"web"})
	check(err == nil, "JWTSource: %v", err)
	params.Subject = idOf("nobody")
	_, err = workloadapi.FetchJWTSVID(ctx, params)
	check(status.Code(err) == codes.PermissionDenied, "another's subject: %v", err)
	ok("JWTSource: its own subject, and nobody else's")

	begin := time.Now()
	_, err = workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{})
	check(status.Code(err) == codes.InvalidArgument, `audience [""]: %v`, err)
	check(time.Since(begin) < time.Second, `audience [""] took %s`, time.Since(begin))
	ok(`audience [""]: InvalidArgument at once`)
}

func bothSidesValidateJWT(ctx context.Context, foreign *foreignDomain) {
	ours := must(workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})).Marshal()
	theirs := foreign.newJWTSVID(audience)
	bundles := must(workloadapi.FetchJWTBundles(ctx))
	for _, token := range []string{ours, theirs} {
		online, err := workloadapi.ValidateJWTSVID(ctx, token, audience)
		check(err == nil, "ValidateJWTSVID: %v", err)
		offline, err := jwtsvid.ParseAndValidate(token, bundles, []string{audience})
		check(err == nil && offline.ID == online.ID, "offline: %v", err)
	}
	ok("ValidateJWTSVID: ours and a federated one, as go-spiffe judges")

	signed := strings.LastIndexByte(ours, '.')
	for name, arguments := range map[string][2]string{
		"another audience":           {ours, "other"},
		"another's signature":        {ours[:signed] + theirs[strings.LastIndexByte(theirs, '.'):], audience},
		"no signature":               {ours[:signed+1], audience},
		"unknown domain's authority": {newForeignDomain().newJWTSVID(audience), audience},
	} {
		_, err := workloadapi.ValidateJWTSVID(ctx, arguments[0], arguments[1])
		check(status.Code(err) == codes.InvalidArgument, "%s: %v", name, err)
	}
	ok("ValidateJWTSVID: another audience, signature or authority: InvalidArgument")
}

func itFetchesWIT(ctx context.Context) {
	source := must(workloadapi.NewWITSource(ctx))
	defer source.Close()
	svid := must(source.GetWITSVIDForID(idOf("first")))
	check(svid.Hint == "main" && time.Until(svid.Expiry) > 0, "hint %q, until %s", svid.Hint, svid.Expiry)
	verified, err := witsvid.ParseAndValidate(svid.Marshal(), source)
	check(err == nil && verified.ID == svid.ID, "offline: %v", err)
	private, _ := svid.PrivateKey.(crypto.Signer)
	public, _ := verified.PublicKey.(*ecdsa.PublicKey)
	check(private != nil && public != nil && public.Equal(private.Public()),
		"the private key (%T) is not that of the token (%T)", svid.PrivateKey, verified.PublicKey)
	_, err = workloadapi.FetchWITSVID(ctx, idOf("nobody").String())
	check(status.Code(err) == codes.PermissionDenied, "another's WIT-SVID: %v", err)
	ok("WITSource: the token holds offline, and its key is the one that came with it")
}
