import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultJwtSource;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.JwtSource;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What java-spiffe sees of the Workload API. */
public final class Peer {
    /** The lifetime in seconds of the X.509-SVIDs whose rotation is watched. */
    private static final int SHORT_TTL = 10;

    private static final String AUDIENCE = "db";

    public static void main(String[] arguments) {
        try {
            story();
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
        // The library has threads that keep a process going.
        System.exit(0);
    }

    private static void story() throws Exception {
        try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient()) {
            strangersAreRefused(client);
            World.createEntry("first", "--hint", "main", "--x509-svid-ttl", "" + SHORT_TTL);
            itFetchesX509(client);
            theWatchedStreamFollows(client);
            itFetchesAndValidatesJwt(client);
        }
        MutualTls.works();
    }

    private static void strangersAreRefused(WorkloadApiClient client) {
        World.fails("PERMISSION_DENIED", client::fetchX509Context);
        World.fails("PERMISSION_DENIED", client::fetchJwtBundles);
        World.ok("no identity: PERMISSION_DENIED");
    }

    /** Verifies the default SVID as a peer would. */
    private static X509Svid sound(X509Context context) throws Exception {
        X509Svid svid = context.getDefaultSvid();
        World.check(svid.getSpiffeId().equals(World.id("first")), svid.getSpiffeId().toString());
        X509SvidValidator.verifyChain(svid.getChain(), context.getX509BundleSet());
        svid.getLeaf().checkValidity();
        return svid;
    }

    private static void itFetchesX509(WorkloadApiClient client) throws Exception {
        X509Context context = client.fetchX509Context();
        X509Svid svid = sound(context);
        World.check("main".equals(svid.getHint()), "hint " + svid.getHint());
        long left = Duration.between(Instant.now(), svid.getLeaf().getNotAfter().toInstant()).toSeconds();
        World.check(left <= SHORT_TTL + 1, left + " s are left of " + SHORT_TTL);
        World.check(client.fetchX509Bundles().getBundles().equals(context.getX509BundleSet().getBundles()),
            "FetchX509Bundles gives other bundles");
        try (DefaultX509Source source = DefaultX509Source.newSource()) {
            X509Svid sourced = source.getX509Svid();
            World.check(sourced.getSpiffeId().equals(svid.getSpiffeId()), "the source's SVID");
            X509SvidValidator.verifyChain(sourced.getChain(), source);
        }
        World.ok("fetchX509Context, fetchX509Bundles and X509Source: chain, hint and lifetime hold");
    }

    private static void theWatchedStreamFollows(WorkloadApiClient client) throws Exception {
        BlockingQueue<Object> updates = new LinkedBlockingQueue<>();
        client.watchX509Context(new Watcher<X509Context>() {
            @Override public void onUpdate(X509Context update) {
                updates.add(update);
            }

            @Override public void onError(Throwable failure) {
                updates.add(failure);
            }
        });
        X509Svid before = sound(next(updates));
        X509Svid after = sound(next(updates));
        World.check(!after.getLeaf().equals(before.getLeaf()), "the same certificate is pushed again");
        World.ok("watchX509Context follows the rotation of a " + SHORT_TTL + " s SVID");
        World.createEntry("second");
        while (next(updates).getX509Svids().size() != 2) {
            // A rotation came first.
        }
        World.ok("a new entry reaches the open stream");
    }

    private static X509Context next(BlockingQueue<Object> updates) throws Exception {
        Object update = updates.poll(SHORT_TTL, TimeUnit.SECONDS);
        World.check(update instanceof X509Context, "instead of an update: " + update);
        return (X509Context) update;
    }

    private static void itFetchesAndValidatesJwt(WorkloadApiClient client) throws Exception {
        SpiffeId first = World.id("first");
        JwtSvid svid = client.fetchJwtSvid(first, AUDIENCE, "web");
        World.check(svid.getAudience().equals(Set.of(AUDIENCE, "web")), "aud " + svid.getAudience());
        JwtSvid online = client.validateJwtSvid(svid.getToken(), AUDIENCE);
        World.check(online.getSpiffeId().equals(first), "ValidateJWTSVID: " + online.getSpiffeId());
        World.fails("INVALID_ARGUMENT", () -> client.validateJwtSvid(svid.getToken(), "other"));
        try (JwtSource source = DefaultJwtSource.newSource()) {
            for (JwtSvid token : List.of(svid, source.fetchJwtSvid(first, AUDIENCE))) {
                JwtSvid offline = JwtSvid.parseAndValidate(token.getToken(), source, Set.of(AUDIENCE));
                World.check(offline.getSpiffeId().equals(first), "offline: " + offline.getSpiffeId());
            }
            World.fails("audience", () ->
                JwtSvid.parseAndValidate(svid.getToken(), source, Set.of("other")));
        }
        World.fails("PERMISSION_DENIED", () -> client.fetchJwtSvid(World.id("nobody"), AUDIENCE));
        World.fails("INVALID_ARGUMENT", () -> client.fetchJwtSvid(""));
        World.ok("fetchJwtSvid, validateJwtSvid and JwtSource: tokens hold online and offline");
    }
}
