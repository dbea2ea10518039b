"""A browser for tests: follows the redirects of an issuer that shows no page.

    python3 scripts/browser.py LOG URL     notes the URL in the file LOG

A page that cannot be reached is loaded again, as a person does.
"""

import http.cookiejar
import sys
import time
import urllib.error
import urllib.request

TRIES = 60


def main(log, url):
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{time.time():.1f} {url}\n")
    for _ in range(TRIES):
        # Everything is on this machine: ignore its proxy settings.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())]
        try:
            with urllib.request.build_opener(*handlers).open(url, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return error.read()
        except OSError:
            pass
        time.sleep(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
