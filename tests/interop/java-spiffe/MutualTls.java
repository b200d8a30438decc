import io.spiffe.provider.SpiffeSslContextFactory;
import io.spiffe.provider.SpiffeSslContextFactory.SslContextOptions;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.DefaultX509Source.X509SourceOptions;
import java.io.IOException;
import java.net.InetAddress;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/** mTLS by java-spiffe's security provider between the two identities of this process. */
final class MutualTls {
    private MutualTls() {}

    static void works() throws Exception {
        try (DefaultX509Source server = sourceOf("first"); DefaultX509Source client = sourceOf("second")) {
            World.check(handshake(context(server, "second"), context(client, "first")) == 'x', "mTLS");
            World.ok("mTLS by the security provider, each side authorised by its SPIFFE ID");
            World.fails(World.id("first") + " in X.509 certificate is not accepted",
                () -> handshake(context(server, "second"), context(client, "second")));
            World.fails(World.id("second") + " in X.509 certificate is not accepted",
                () -> handshake(context(server, "first"), context(client, "first")));
            World.ok("mTLS: a server or a client with another SPIFFE ID is refused");
        }
    }

    private static DefaultX509Source sourceOf(String name) throws Exception {
        return DefaultX509Source.newSource(X509SourceOptions.builder()
            .svidPicker(svids -> svids.stream()
                .filter(svid -> svid.getSpiffeId().equals(World.id(name))).findFirst().orElseThrow())
            .build());
    }

    private static SSLContext context(DefaultX509Source source, String accepted) throws Exception {
        return SpiffeSslContextFactory.getSslContext(SslContextOptions.builder()
            .sslProtocol("TLSv1.3").x509Source(source)
            .acceptedSpiffeIdsSupplier(() -> Set.of(World.id(accepted))).build());
    }

    /** The byte that the client got. The server's failure is suppressed by the client's. */
    private static int handshake(SSLContext server, SSLContext client) throws Exception {
        InetAddress loopback = InetAddress.getLoopbackAddress();
        try (SSLServerSocket listener = (SSLServerSocket) server.getServerSocketFactory()
            .createServerSocket(0, 1, loopback)) {
            listener.setNeedClientAuth(true);
            FutureTask<Void> answering = new FutureTask<>((Callable<Void>) () -> {
                try (var connection = listener.accept()) {
                    connection.getOutputStream().write('x');
                }
                return null;
            });
            new Thread(answering).start();
            try (SSLSocket socket = (SSLSocket) client.getSocketFactory()
                .createSocket(loopback, listener.getLocalPort())) {
                socket.setSoTimeout(5_000);
                int got = socket.getInputStream().read();
                World.check("TLSv1.3".equals(socket.getSession().getProtocol()), "not TLS 1.3");
                answering.get();
                return got;
            } catch (IOException atClient) {
                try {
                    answering.get();
                } catch (ExecutionException atServer) {
                    atClient.addSuppressed(atServer.getCause());
                }
                throw atClient;
            }
        }
    }
}
