#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of updater_hostile.sh: updater_hostile.py BUILD DIR. Unless a case says otherwise what it offers is newer than
what is installed and rightly signed, so that nothing but the fault under test can be the reason of the refusal."""
import base64
import io
import json
import os
import pickle
import shutil
import ssl
import stat
import sys
import time
import zipfile

from updater_lab import NOW, SLOT, Lab, check, entries_of, id_of, is_whole, not_ok, ok, pack

BUILD, DIR = sys.argv[1:3]
lab = Lab(BUILD, DIR)
EVIL = os.path.join(DIR, "evil")  # what an attack would leave behind
YEARS = 10 * 365 * 86400
OLD = entries_of(20)
NEW = entries_of(30)
ZIP = pack(NEW)
SIGNATURE = lab.sign(ZIP, id_of(NEW))
UNSIGNED = ("--server-trust", "unsigned")
WEIGHT = ("--models", "rapl-sysfs/AbsPower/weight")
cases = []


def case(name, words, answer, *args, **options):
    """words: what the refusal must say; args: for the updater; options: of Lab.command, and env."""
    cases.append((name, words, answer, args, options))


def served(body, signature=SIGNATURE, **headers):
    return lambda h: h.reply(body, signature=signature, **headers)


def signed(entries, **options):
    """A model that is signed as it is."""
    body = entries if isinstance(entries, bytes) else pack(entries)
    listed = options.pop("id", None) or id_of(entries if isinstance(entries, dict) else dict(entries))
    return served(body, lab.sign(body, listed, **options))


def changed(name, edit):
    """NEW with one of its JSON entries edited."""
    entries = dict(NEW)
    document = json.loads(entries[name])
    edit(document)
    entries[name] = json.dumps(document).encode()
    return entries


def raw(*pieces, pause=0.0):
    """Bytes on the wire, without HTTP's help."""
    def answer(h):
        for piece in pieces:
            h.wfile.write(piece)
            h.wfile.flush()
            time.sleep(pause)
    return answer


def for_ever(head, piece):
    def answer(h):
        h.wfile.write(head)
        while True:
            h.wfile.write(piece)
    return answer


def zip_with(name, data=b"x", mode=None, method=zipfile.ZIP_DEFLATED, repeat=1):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for n, content in NEW.items():
            z.writestr(n, content, zipfile.ZIP_DEFLATED)
        for _ in range(repeat):
            info = zipfile.ZipInfo(name)
            if mode:
                info.create_system, info.external_attr = 3, mode << 16
            z.writestr(info, data, method)
    return out.getvalue()


def in_zip(*args, **kwargs):
    return signed(zip_with(*args, **kwargs), id=id_of(NEW))


def flip(data, at):
    return data[:at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1:]


class Payload:
    def __reduce__(self):
        return os.system, (f"touch {EVIL}",)


def keys(listed, signature, model=served(ZIP)):
    def answer(h):
        if h.path == "/api/v1/keys":
            h.reply(listed, kind="application/json")
        elif h.path == "/api/v1/keys.minisig":
            h.reply(signature, kind="text/plain")
        else:
            model(h)
    return answer


ROOT = {"trust": ("--trust-root-keys", "root.pub")}

# ---- damaged on the way ----
for at in range(0, len(ZIP), 512):
    case(f"cut at byte {at}", "does not fit" if at else "nothing", served(ZIP[:at]))
    case(f"cut at byte {at}, unsigned", "archive" if at else "nothing", served(ZIP[:at], None), *UNSIGNED)
for at in range(0, 8 * len(ZIP), 8 * len(ZIP) // 40):
    case(f"bit {at} flipped", "does not fit", served(flip(ZIP, at)))
case("a flipped bit that the zip's own sum shows", "archive", served(flip(ZIP, 8 * 400), None), *UNSIGNED)
case("less than its Content-Length says", "bytes remaining", served(ZIP, Content_Length=len(ZIP) + 9))
case("another digest than the header's", "digest", served(
    ZIP, Digest="sha-256=" + base64.b64encode(bytes(32)).decode()))
case("the halves of two versions", "does not fit", served(ZIP[:len(ZIP) // 2] + pack(OLD)[len(ZIP) // 2:]))

# ---- signatures ----
case("no signature", "it is not signed", served(ZIP, None))
case("the signature of another model", "does not fit", served(ZIP, lab.sign(pack(OLD), id_of(OLD))))
case("a signature for another slot", "signed for acpi", signed(NEW, slot="acpi/AbsPower/archive"))
case("a signature of an unknown key", "none of the release keys", signed(NEW, key="stranger"))
case("a signature whose id is another model's", "the signature is of model", signed(ZIP, id=id_of(OLD)))
case("a comment that was changed after signing", "trusted comment", served(
    ZIP, SIGNATURE.replace(b"version:6", b"version:9")))
case("a comment that is no statement", "wattloop", served(ZIP, lab.sign_with_comment(ZIP, "file:model.zip")))
case("a signature that is no signature", "minisign", served(ZIP, b"trust me\n"))
case("a signature that is no base64", "no base64", served(ZIP, None, Wattloop_Signature="!!!"))
case("a signature of 40 KiB", "no base64", served(ZIP, None, Wattloop_Signature="A" * 40000))
case("an older version", "is older than version 5", signed(NEW, version=4))
case("signed before what is installed", "before what is installed", signed(NEW, age=500))
case("an expired model", "was good until", signed(NEW, expires=NOW - 5))

# ---- keys ----
case("a revoked key", "is revoked", keys(*lab.key_list(revoked=["release"])), **ROOT)
case("an expired key", "which expired on", keys(*lab.key_list(keys=[("release", NOW - 5)])), **ROOT)
case("an expired list of keys", "list of keys expired", keys(*lab.key_list(expires=NOW - 5)), **ROOT)
case("a list of keys that no root signed", "none of the root keys", keys(*lab.key_list(root="release")), **ROOT)
case("a list of keys that was changed", "list of keys: the signature does not fit", keys(
    lab.key_list()[0] + b" ", lab.key_list()[1]), **ROOT)
case("a list of keys that is none", "list of keys", keys(b"[]", lab.sign_with_comment(b"[]", "keys", "root")), **ROOT)
case("an endless list of keys", "larger than", lambda h: for_ever(
    b"HTTP/1.1 200 OK\r\n\r\n", b"k" * 65536)(h) if "keys" in h.path else h.reply(ZIP), **ROOT)

# ---- another's model ----
case("a model that needs counters this machine lacks", "cpu_cycles", signed(entries_of(30, feature="cpu_cycles")))
case("another energy source's components", "platform", signed(entries_of(30, components=("platform",))))
case("another output type", "DynPower", signed(entries_of(30, output_type="DynPower")))
case("metadata of one model, components of another", "weight.json", signed(
    {k: v for k, v in NEW.items() if k != "weight.json"}))

# ---- numbers ----
for number, words in ((float("nan"), "NaN"), (float("inf"), "Infinity"), (-1e5, "negative power"), (1e9, "W for package")):
    case(f"{number} as weight", words, signed(entries_of(number)))
case("1e999 as weight", "weight.json", signed({**NEW, "weight.json": NEW["weight.json"].replace(b"30", b"1e999", 1)}))
case("nested 100,000 deep", "weight.json", signed({**NEW, "weight.json": b"[" * 100000 + b"]" * 100000}))
case("no number at all", "weight.json", signed({**NEW, "weight.json": NEW["weight.json"].replace(b"30", b'"x"', 1)}))

# ---- archives ----
for name in ("../evil", "../../evil", "/tmp/evil", "..\\evil", "..", ".evil", "C:evil/../x"):
    case(f"an entry called {name}", "archive entry", in_zip(name))
case("a symlink", "is not a regular file", in_zip("link", b"/etc/passwd", stat.S_IFLNK | 0o777))
case("a device", "is not a regular file", in_zip("device", b"", stat.S_IFCHR | 0o666))
case("a bomb", "more than", in_zip("bomb.json", bytes(100 << 20)))
case("a bomb of many entries", "archive", in_zip("x", repeat=70))
case("an entry twice", "twice", in_zip("weight.json", NEW["weight.json"]))
case("an entry that the store uses", "wattloop.json", in_zip("wattloop.json", b"{}"))
case("a compression that needs a large dictionary", "compression", in_zip("x", bytes(1000), method=zipfile.ZIP_LZMA))
case("an empty archive", "archive", signed(pack({}), id=id_of({})))
case("a pickle that starts a program", "not allowed", signed(
    {**changed("metadata.json", lambda m: m.update(model_class="scikit")), "weight.json": pickle.dumps(Payload())}))
case("a pickled scaler that starts a program", "pickle", signed({**changed("metadata.json", lambda m: m.update(
    model_class="scikit", fe_files=["scaler.pkl"])), "scaler.pkl": pickle.dumps(Payload(), 0)}))

# ---- HTTP ----
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\n"
case("HTML", "text/html", served(b"<!doctype html>", kind="text/html"))
case("HTML that says it is a zip", "does not fit", served(b"<!doctype html>" * 99))
case("HTML that says it is a zip, unsigned", "archive", served(b"<!doctype html>" * 99, None), *UNSIGNED)
case("HTML that says it is a weight", "weights", served(b"<!doctype html>", None, kind="application/json"), *UNSIGNED, *WEIGHT)
case("200 with an error text", "text/plain", served(b"cannot find model", None, kind="text/plain"))
case("200 with an error in JSON", "application/json", served(b'{"error": "no"}', None, kind="application/json"))
case("200 with an error in JSON for a weight", "weights", served(b'{"error": "no"}', None, kind="application/json"),
     *UNSIGNED, *WEIGHT)
case("nothing", "nothing", served(b""))
case("204", "answered 204", served(b"", status=204, Content_Length=None))
case("206", "answered 206", served(ZIP, status=206))
case("304 to an unconditional question", "304", served(b"", status=304, Content_Length=None), *WEIGHT)
case("400", "cannot find model", served(b'{"error": "cannot find model"}', None, status=400, kind="application/json"))
case("500", "answered 500", served(b"sorry", None, status=500, kind="text/plain"))
case("503", "answered 503", served(b"later", None, status=503, kind="text/plain", Retry_After="5"))
case("a redirect to file://", "answered 302", served(b"", status=302, Location="file:///etc/passwd"))
case("a redirect to another server", "answered 301", served(b"", status=301, Location="http://127.0.0.1:1/x"))
case("an endless body", "larger than", for_ever(HEAD + b"\r\n", bytes(65536)))
case("an endless body in chunks", "larger than", for_ever(
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65536) + b"\r\n"))
case("an endless header", "eader", for_ever(HEAD, b"X-Y: " + b"z" * 1000 + b"\r\n"))
case("a body that says it has a terabyte", "larger than", served(ZIP, Content_Length=1 << 40))
case("a chunk of a wrong length", "hunk", raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n"))
case("no HTTP at all", "HTTP", raw(b"220 mail.example ESMTP\r\n"))
case("silence, then the end", "eply", raw())
case("silence", "imed out", lambda h: time.sleep(1.2), "--server-timeout", "300ms")
case("a byte now and then", "imed out", raw(HEAD + b"Content-Length: 8000\r\n\r\n", *[b"P"] * 12, pause=0.1),
     "--server-timeout", "500ms")

# ---- TLS ----
def tls(certificate, **versions):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(DIR, certificate + ".pem"), os.path.join(DIR, certificate + ".key"))
    if versions:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = versions["version"]
    return f"https://127.0.0.1:{lab.serve(context)}"


TRUST_TLS = ("--server-trust", "tls")
CA = ("--server-ca-file", os.path.join(DIR, "tls.pem"))
HTTPS = tls("tls")
case("a certificate that nobody vouches for", "ertificate", served(ZIP), *TRUST_TLS, url=HTTPS)
case("a certificate of another host", "127.0.0.1", served(ZIP), *TRUST_TLS, "--server-ca-file",
     os.path.join(DIR, "other.pem"), url=tls("other"))
case("TLS 1.1", "SSL", served(ZIP), *TRUST_TLS, *CA, url=tls("tls", version=ssl.TLSVersion.TLSv1_1))
case("no TLS where https was asked for", "SSL", raw(b"HTTP/1.1 200 OK\r\n\r\n"), *TRUST_TLS, *CA,
     url=f"https://127.0.0.1:{lab.port}")
case("a redirect from https to http", "answered 302", served(b"", status=302, Location=f"http://127.0.0.1:{lab.port}"),
     *TRUST_TLS, *CA, url=HTTPS)
case("plain http where TLS must vouch", "not https", served(ZIP, None), *TRUST_TLS)

# ---- clocks ----
FAULTY = {"program": os.path.join(lab.tools, "updater_faults")}
FRESH = signed(NEW, expires=NOW + 30 * 86400)
case("a clock ten years ahead", "was good until", FRESH, env={"FAULT_CLOCK_S": str(YEARS)}, **FAULTY)
case("an expired model and a clock ten years behind", "was good until", signed(NEW, expires=NOW - 200),
     env={"FAULT_CLOCK_S": str(-YEARS)}, **FAULTY)


# ---- running them ----

def offer(entries, **options):
    lab.answer = signed(entries, **options)


def run(args, options):
    options = dict(options)
    env = options.pop("env", {})
    if "program" not in options:
        options["program"] = None
    return lab.run(lab.command("update", *args, **options), **env)


def try_case(good, name, words, answer, args, options):
    lab.answer = answer
    r, out = run(("--server-timeout", "5s", *args), options)
    wrong = ([f"exit {r}"] if r != 1 else []) + ([f"no '{words}'"] if words not in out else []) + \
        (["current changed"] if lab.current() != good else []) + (["not whole"] if not is_whole(lab.slot) else []) + \
        (["staging is not clean"] if lab.staging() else []) + (["not served"] if lab.served() != good else []) + \
        (["evil was done"] if os.path.exists(EVIL) or os.path.exists("/tmp/evil") else [])
    if options.get("trust") == ROOT["trust"]:  # a list of keys is kept, whatever came of the model
        forget_keys()
    return f"{name}: {', '.join(wrong)}: {out}" if wrong else None


def forget_keys():
    for file in ("keys.json", "keys.json.minisig"):
        path = os.path.join(lab.store, ".state", file)
        if os.path.exists(path):
            os.remove(path)


def groups():
    """A claim each, but one for all cuts and one for all flips."""
    many = {"cut at": [], "bit": []}
    for c in cases:
        group = next((g for g in many if c[0].startswith(g)), None)
        if group:
            many[group].append(c)
    for group, members in many.items():
        yield f"{len(members)} archives with '{group}' are refused", members
    for c in cases:
        if not any(c in members for members in many.values()):
            yield f"{c[0]} is refused", [c]


offer(OLD, version=5, age=100)
r, out = run((), {})
if not check("a good model is installed and served to begin with",
             r == 0 and lab.start_estimator() and lab.served() == id_of(OLD), out):
    sys.exit(1)
for claim, members in groups():
    failures = [f for f in (try_case(id_of(OLD), *c) for c in members) if f]
    check(claim + " and the old model serves", not failures, "; ".join(failures))

# A list of keys that was seen is not gone back from, one that revokes is kept though it refuses the model. The back-off of
# the future does not outlive its clock.
lab.answer = keys(*lab.key_list(revoked=["release"]))
run((), ROOT)
kept = try_case(id_of(OLD), "revoked", "is revoked", lambda h: h.reply(b"", status=404, kind="text/plain")
                if "keys" in h.path else h.reply(ZIP, signature=SIGNATURE), (), {"trust": ROOT["trust"]})
check("a key that was revoked stays revoked when the list cannot be had", not kept, str(kept))
lab.answer = keys(*lab.key_list(version=3), model=signed(OLD, version=5, age=100))
r, out = run((), ROOT)
case_r = try_case(id_of(OLD), "", "version 3 is known", keys(*lab.key_list(version=2)), (), ROOT)
check("an older list of keys than the one that is known is refused", r == 3 and not case_r, f"{r} {out} {case_r}")
run(("--server-timeout", "200ms"), {"url": "http://127.0.0.1:1", "env": {"FAULT_CLOCK_S": str(YEARS)}, **FAULTY})
lab.answer = signed(OLD, version=5, age=100)
r, out = run(("--scheduled", "--splay", "0s"), {})
check("a back-off from a clock ten years ahead is not waited for", r == 3 and "asked again" not in out, out)

# The disk is full from the N-th write on, for every N, until there is none that fails.
lab.answer = signed(NEW)
kept = os.path.join(DIR, "kept")
shutil.copytree(lab.store, kept, symlinks=True)
failures, refused, n = [], 0, 0
while n < 200:
    n += 1
    r, out = run((), {"env": {"FAULT": f"full:{n}"}, **FAULTY})
    current = lab.current()
    if not is_whole(lab.slot) or lab.served() != current:
        failures.append(f"write {n}: {current} is broken or not served")
    if r == 0 and "o space left" not in out and "not kept" not in out:
        break
    refused += r != 0
    if "o space left" not in out:
        failures.append(f"write {n}: exit {r} without the reason: {out}")
    if r == 1 and current != id_of(OLD) and "remove" not in out:
        failures.append(f"write {n}: refused, but installed: {out}")
    shutil.rmtree(lab.store)
    shutil.copytree(kept, lab.store, symlinks=True)
    lab.ask({"command": "reload"})
    for _ in range(100):
        if lab.served() == id_of(OLD):
            break
        time.sleep(0.02)
check(f"a disk that is full at any of {n - 1} writes costs no model and is named", not failures and refused > 10,
      f"{refused} refused; " + "; ".join(failures))
check("with room again the model is installed", lab.current() == id_of(NEW) and lab.served() == id_of(NEW))
lab.close()
