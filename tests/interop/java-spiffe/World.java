import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.spiffeid.TrustDomain;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;

/** The server that this process talks to by `claviger`, and how it says what it found. */
final class World {
    static final TrustDomain DOMAIN = TrustDomain.parse(System.getenv("TRUST_DOMAIN"));

    private World() {}

    static SpiffeId id(String name) {
        return SpiffeId.fromSegments(DOMAIN, name);
    }

    /** Entitles this process, by user and by the virtual machine that it runs. */
    static void createEntry(String name, String... more) throws Exception {
        String uid = Files.getAttribute(Path.of("/proc/self"), "unix:uid").toString();
        List<String> arguments = new ArrayList<>(List.of(
            "entry", "create", "--wait", "--entry-id", name, "--spiffe-id", id(name).toString(),
            "--selector", "unix:uid:" + uid,
            "--selector", "unix:path:" + Path.of("/proc/self/exe").toRealPath()));
        arguments.addAll(Arrays.asList(more));
        claviger(arguments.toArray(String[]::new));
    }

    static void claviger(String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(System.getenv("CLAVIGER")));
        command.addAll(Arrays.asList(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes());
        check(process.waitFor() == 0, String.join(" ", command) + ": " + said);
    }

    static void ok(String text) {
        System.out.println("  ok    " + text);
    }

    static void check(boolean condition, String text) {
        if (!condition) {
            throw new AssertionError(text);
        }
    }

    /** Checks that `call` fails, and that the failure or what is behind it says `reason`. */
    static void fails(String reason, Callable<?> call) {
        try {
            call.call();
        } catch (Exception failure) {
            if (!says(failure, reason)) {
                throw new AssertionError("it failed, but not by " + reason, failure);
            }
            return;
        }
        throw new AssertionError("it did not fail by " + reason);
    }

    private static boolean says(Throwable failure, String reason) {
        return failure != null
            && (String.valueOf(failure.getMessage()).contains(reason)
                || says(failure.getCause(), reason)
                || Arrays.stream(failure.getSuppressed()).anyMatch(behind -> says(behind, reason)));
    }
}
