"""Generated text for the pocket: bytes in base64 and in hexadecimal, and nucleotide sequences.

They come in the forms in which people meet them: keys, tokens, dumps, checksums, FASTA, lists of primers.
Every function is endless and starts from a fixed seed. (Part of `sae_core.pocket`.)
"""

import base64
import hashlib
import json
import random
import re
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

Files = list[tuple[str, Path]]  # (name to print, where its bytes are)


def _payloads(rng: random.Random, files: Files) -> Iterator[tuple[str, bytes]]:
    """(file name, 300 to 2,500 bytes), the bytes being text, text in UTF-16, or noise."""
    while True:
        name, path = rng.choice(files)
        data = path.read_bytes()
        start = rng.randrange(max(1, len(data) - 300))
        data = data[start : start + rng.randint(300, 2500)]
        wide = data.decode("utf-8", "ignore").encode("utf-16-le")
        yield name, rng.choice([data, wide, rng.randbytes(len(data) + 40)])


def base64_texts(files: Files) -> Iterator[str]:
    """MIME parts, data URIs, PEM blocks, JSON, tokens and bare base64."""
    rng = random.Random("base64")
    for name, data in _payloads(rng, files):
        text, stem = base64.b64encode(data).decode(), name.rsplit("/")[-1]
        wrapped = textwrap.fill(text, rng.choice([64, 76]))
        kind = rng.choice(["CERTIFICATE", "PUBLIC KEY", "ENCRYPTED DATA", "SIGNATURE"])
        parts = (data[:40], data[40:200], data[-32:])
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        yield rng.choice([
            f'Content-Type: image/png; name="{stem}"\nContent-Transfer-Encoding: base64\n\n{wrapped}',
            f'<img alt="{stem}" src="data:image/png;base64,{text}">',
            f".icon {{\n  background: url(data:image/svg+xml;base64,{text}) no-repeat;\n}}",
            f"-----BEGIN {kind}-----\n{wrapped}\n-----END {kind}-----",
            json.dumps({"name": stem, "encoding": "base64", "size": len(data), "content": text}, indent=2),
            f"GET /{name} HTTP/1.1\nHost: api.example.org\nAuthorization: Bearer {token}\nAccept: */*",
            text,
        ])  # fmt: skip


def hex_texts(files: Files) -> Iterator[str]:
    """Dumps, lists of checksums, identifiers, histories, addresses, byte arrays and bare digits."""
    rng = random.Random("hex")
    for _, data in _payloads(rng, files):
        rows = [data[i : i + 16] for i in range(0, len(data), 16)]
        names = [other for other, _ in rng.sample(files, 24)]
        algorithm = rng.choice(["md5", "sha1", "sha256", "sha512"])
        printable = [re.sub(r"[^ -~]", ".", row.decode("latin-1")) for row in rows]
        dump = [f"{16 * i:08x}: {row.hex(' ', 2):39}  {printable[i]}" for i, row in enumerate(rows)]
        sums = [hashlib.new(algorithm, other.encode() + data).hexdigest() for other in names]
        identifiers = [uuid.UUID(bytes=rng.randbytes(16), version=4) for _ in names]
        commits = [f"commit {rng.randbytes(20).hex()}\n\n    Update {other}\n" for other in names]
        addresses = [f"{rng.randbytes(6).hex(':')}  {rng.randbytes(16).hex(':', 2)}" for _ in names]
        array = ["    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows]
        yield rng.choice([
            "\n".join(dump),
            "\n".join(map("  ".join, zip(sums, names, strict=True))),
            "\n".join(f"{identifier}  {other}" for identifier, other in zip(identifiers, names, strict=True)),
            "\n".join(commits),
            "\n".join(f"{256 * i:#06x}  {address}" for i, address in enumerate(addresses)),
            "\n".join(["static const unsigned char data[] = {", *array, "};"]),
            data.hex().upper(),
        ])  # fmt: skip


def dna_texts() -> Iterator[str]:
    """Coding sequences drawn codon by codon, as FASTA, GenBank, FASTQ, tables of primers and alignments.

    Each gene has its own bias: a codon's weight falls as its share of G and C moves away from the gene's.
    """
    rng = random.Random("dna")
    stops = ["TAA", "TAG", "TGA"]
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in stops]
    organisms = ("Homo sapiens", "Mus musculus", "Danio rerio", "Escherichia coli", "Arabidopsis thaliana")
    genes = ("kinase", "helicase", "polymerase", "permease", "globin", "tubulin", "synthase", "reductase")
    complement = str.maketrans("ACGT", "TGCA")
    while True:
        gc, organism, gene = rng.uniform(0.3, 0.7), rng.choice(organisms), rng.choice(genes)
        shares = [sum(base in "GC" for base in codon) / 3 for codon in codons]
        weights = [0.02 + max(0.0, 1 - 2 * abs(share - gc)) for share in shares]
        sequence = "ATG" + "".join(rng.choices(codons, weights, k=rng.randint(80, 700))) + rng.choice(stops)
        mutated = "".join(rng.choice("ACGT") if rng.random() < 0.05 else base for base in sequence)
        name = f"{rng.choice('NX')}{rng.choice('MR')}_{rng.randrange(10**6):06d}"
        title = f"{organism} {gene} {rng.randint(1, 9)} ({gene[:3].upper()}{rng.randint(1, 99)}), mRNA"
        starts = range(0, len(sequence), 60)
        origin = [f"{i + 1:>9} {' '.join(textwrap.wrap(sequence[i : i + 60].lower(), 10))}" for i in starts]
        pairs = [(sequence[i : i + 60], mutated[i : i + 60]) for i in starts]
        bars = ["".join("| "[x != y] for x, y in zip(*pair, strict=True)) for pair in pairs]
        aligned = [f"Query  {a}\n       {bar}\nSbjct  {b}\n" for (a, b), bar in zip(pairs, bars, strict=True)]
        reads = [sequence[i : i + 100] for i in rng.choices(range(len(sequence) - 100), k=12)]
        scores = ["".join(chr(33 + min(40, max(2, int(rng.gauss(34, 6))))) for _ in read) for read in reads]
        records = [f"@{name}_{i}\n{read}\n+\n{scores[i]}" for i, read in enumerate(reads)]
        primers = [f"5'-{r[:22]}-3'    5'-{r[-22:].translate(complement)[::-1]}-3'" for r in reads]
        features = f"FEATURES             Location/Qualifiers\n     CDS             1..{len(sequence)}"
        yield rng.choice([
            f">{name} {title}\n" + textwrap.fill(sequence, rng.choice([60, 70, 80])),
            "\n".join([f"LOCUS       {name}", f"DEFINITION  {title}.", features, "ORIGIN", *origin, "//"]),
            "\n".join(records),
            "\n".join([f"Primers for {title}", *primers]),
            "\n".join(aligned),
        ])  # fmt: skip
