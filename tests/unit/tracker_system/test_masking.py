"""What of a command line is kept, and what is not."""

from __future__ import annotations

import pytest

from tracker_system.masking import masked, without_credentials

HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("train.py --password hunter2 --lr 0.1", "train.py --password *** --lr 0.1"),
        ("train.py --password=hunter2", "train.py --password=***"),
        ("train.py --db-password hunter2 -v", "train.py --db-password *** -v"),
        ("train.py --dbPassword hunter2", "train.py --dbPassword ***"),
        ("train.py --api_key xyz --api-key=xyz", "train.py --api_key *** --api-key=***"),
        ("train.py --wandb-apikey xyz", "train.py --wandb-apikey ***"),
        ("train.py db.password=s lr=3 token=t", "train.py db.password=*** lr=3 token=***"),
        ("train.py --aws-secret-access-key k", "train.py --aws-secret-access-key ***"),
        ("train.py --secret --next", "train.py --secret --next"),
        (
            "train.py postgresql://me:pw@host/db?password=z&sslmode=allow",
            "train.py postgresql://me:***@host/db?password=***&sslmode=allow",
        ),
        ("train.py --store=http://tok@host:5000", "train.py --store=http://***@host:5000"),
        (
            "train.py --data https://bucket/x?X-Amz-Signature=abc",
            "train.py --data https://bucket/x?X-Amz-Signature=***",
        ),
        ('train.py {"password":"p1","lr":3}', 'train.py {"password":"***","lr":3}'),
        ("train.py sk-abcdefghijklmnop1234 --model hf_abcdefghijklmnop", "train.py *** --model ***"),
        ("train.py -p hunter2 --lr 3", "train.py -p *** --lr 3"),
        ("mysql -phunter2 db", "mysql -p*** db"),
        ("aws configure set aws_secret_access_key k --lr 3", "aws configure set aws_secret_access_key *** --lr 3"),
        ("train.py --wandb_key=k --key k2 key=k3", "train.py --wandb_key=*** --key *** key=***"),
        ("train.py me:pw@host:/data --to me:p:w@host", "train.py me:***@host:/data --to me:***@host"),
        ("train.py --login=me:pw -u me:pw --user me", "train.py --login=me:*** -u me:*** --user me"),
        ("train.py --x aB3dE6gH9jK2mN5q", "train.py --x ***"),
        (f"train.py --wandb {HEX}", "train.py --wandb ***"),
        (f"train.py {HEX}", "train.py ***"),
    ],
)
def test_secrets_are_masked(line: str, kept: str) -> None:
    """The value of what is called a secret, or looks like one, is not recorded."""
    assert masked(line.split(" ")) == kept.split(" ")


@pytest.mark.parametrize(
    "line",
    [
        "python -u train.py --lr 0.1 --epochs=10 --max-tokens 512 --num_tokens=5 --tokenizer bert --author ann",
        f"python -m pkg.train --run-id {HEX[:32]} --commit {HEX} --sha256={HEX}",
        "python train.py --keys a,b --monkey 1 --key-size 3 --bypass yes --pass-rate 0.4 --compass=n",
        "python train.py --model resnet50-imagenet-2026-11-23T120000 /data/20261123/model_final_v2_long_name.keras",
        "python train.py C:\\data\\x --url=https://host/path?a=1#frag pair=value=more - -- ''",
        "python train.py 01a2079b-7c3e-4d5f-9a8b-0c1d2e3f4a5b averyveryverylongwordwithoutanydigits 12345678901234567890123",
    ],
)
def test_what_is_no_secret_is_kept(line: str) -> None:
    """Hyperparameters, paths, ids and hashes that say what they are stay readable."""
    assert masked(line.split(" ")) == line.split(" ")


def test_a_header_and_a_program_are_masked() -> None:
    """What stands behind Bearer goes, also inside an argument; a program given with -c is not recorded."""
    assert masked(["x", "-H", "X-Who: Bearer abcdef"]) == ["x", "-H", "X-Who: Bearer ***"]
    assert masked(["python", "-Xdev", "-c", "key = 'k'", "--lr", "3"], is_code=True) == [
        "python", "-Xdev", "-c", "<code>", "--lr", "3",
    ]  # fmt: skip
    assert masked(["python", "tool.py", "-c", "config.json"]) == ["python", "tool.py", "-c", "config.json"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:pw@host/a.git", "https://host/a.git"),
        ("https://token@host:8443/a.git", "https://host:8443/a.git"),
        ("ssh://git@host/a.git", "ssh://host/a.git"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("user:pw@host:path", "host:path"),
        ("/srv/git/a.git", "/srv/git/a.git"),
    ],
)
def test_remotes_have_no_credentials(url: str, kept: str) -> None:
    """A git remote is recorded without who may read it."""
    assert without_credentials(url) == kept
