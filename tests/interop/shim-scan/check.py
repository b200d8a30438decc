"""check.py REPORT PSK MTLS SPIFFE-ID: what sslyze has to have found at the two ports."""

import json
import subprocess
import sys

OLD = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"]
STRONG = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
CURVES = {"X25519", "secp256r1", "secp384r1"}


def main():
    report, psk, mtls, spiffe_id = sys.argv[1:]
    with open(report, encoding="utf-8") as file:
        results = json.load(file)["server_scan_results"]
    by_port = {str(result["server_location"]["port"]): result for result in results}
    check_psk(by_port[psk])
    check_mtls(by_port[mtls], spiffe_id)


def check_psk(result):
    """Without a key there is no handshake to look at."""
    assert result["connectivity_status"] == "ERROR" and result["scan_result"] is None, result
    print("psk: sslyze finds nobody who shakes hands")


def check_mtls(result, spiffe_id):
    assert result["connectivity_status"] == "COMPLETED", result["connectivity_error_trace"]
    assert result["connectivity_result"]["highest_tls_version_supported"] == "TLS_1_3", result
    scan = {name: attempt["result"] for name, attempt in result["scan_result"].items() if attempt["result"]}

    for version in OLD:
        accepted = scan[f"{version}_cipher_suites"]["accepted_cipher_suites"]
        assert accepted == [], (version, accepted)
    print("mtls: no version older than TLS 1.3")
    accepted = {one["cipher_suite"]["name"] for one in scan["tls_1_3_cipher_suites"]["accepted_cipher_suites"]}
    assert accepted and accepted <= STRONG, accepted
    curves = {one["name"] for one in scan["elliptic_curves"]["supported_curves"]}
    assert curves and curves <= CURVES, curves
    print(f"mtls: suites {', '.join(sorted(accepted))}; of what sslyze knows, groups {', '.join(sorted(curves))}")
    assert not scan["tls_compression"]["supports_compression"]
    assert not scan["heartbleed"]["is_vulnerable_to_heartbleed"]
    print("mtls: no compression, no heartbeat that bleeds")

    [deployment] = scan["certificate_info"]["certificate_deployments"]
    leaf = deployment["received_certificate_chain"][0]
    assert leaf["public_key"]["algorithm"].startswith(("EllipticCurve", "_EllipticCurve", "EC")), leaf["public_key"]
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName"],
        input=leaf["as_pem"].encode(), check=True, stdout=subprocess.PIPE,
    ).stdout.decode()  # fmt: skip
    assert names.split()[-1] == f"URI:{spiffe_id}", names
    print(f"mtls: the certificate is the SVID of {spiffe_id}")


main()
