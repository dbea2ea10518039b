#!/usr/bin/env python3
"""A browser that clicks nothing: follows redirects from an authorization request to the program's own callback.

    python3 browser.py URL

A program may open it before it listens for the callback: it tries again, as a person would.
"""

import sys
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 30


def main(url):
    # Everything is on this machine: no proxy is used.
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()]
    browser = urllib.request.build_opener(*handlers)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            browser.open(url, timeout=PATIENCE_SECONDS).read()
            return
        except urllib.error.HTTPError as error:
            # The callback has had the code: what it says to the browser does not matter.
            print(error, error.read(500), file=sys.stderr)
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
