"""Runs the cases that tests/peers/run asks for; the exit code is 1 if any failed."""

import importlib
import sys
import time
import traceback

from stack import Skipped

CASES = ("descriptors", "envoy", "skywalking", "tools", "otel", "rotel", "rust-agent", "k6", "helm", "etcd")


def main():
    wanted = sys.argv[1:] or list(CASES)
    passed, failed, skipped = 0, 0, 0
    for name in wanted:
        if name not in CASES:
            sys.exit(f"tests/peers/run: no case {name!r}; there are {', '.join(CASES)}")
        print(f"== {name}", flush=True)
        start = time.monotonic()
        try:
            importlib.import_module(name.replace("-", "_") + "_case").run()
        except Skipped as why:
            print(f"SKIPPED: {name}: {why}", flush=True)
            skipped += 1
        except Exception:
            traceback.print_exc()
            print(f"== {name}: FAILED after {time.monotonic() - start:.1f} s", flush=True)
            failed += 1
        else:
            print(f"== {name}: passed in {time.monotonic() - start:.1f} s", flush=True)
            passed += 1
    print(f"peers: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
