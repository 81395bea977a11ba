#!/bin/sh
# Installs Debian packages that tests, benchmarks or the set-up need, and starts none of their services.
# Does nothing where they are there already, or where there is no apt-get; where it cannot install, it says so and lets
# the caller go on: tests then skip by name, or fail with CI=true.
set -eu

command -v apt-get >/dev/null || exit 0
unpacked=/usr/local/libexec/cyrus-imapd # where tests/system/cyrus.py looks for it
missing=""
unpack=""
for package in "$@"; do
    if [ "$package" = cyrus-imapd ]; then # conflicts with dovecot-imapd: unpacked beside what it stands on
        test -x /usr/lib/cyrus/bin/imapd || test -x $unpacked/imapd || unpack=$package
        package=cyrus-common
    fi
    case $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
test -n "$missing$unpack" || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "not installed, which root could do with apt-get install:$missing $unpack" >&2
    exit 0
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" # "action forbidden": packages leave their services alone
    chmod 755 "$policy"
fi

echo "Installing$missing $unpack ..."
export DEBIAN_FRONTEND=noninteractive
case $missing in
    *postfix*)
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
        ;;
esac
# shellcheck disable=SC2086 # a list of words
if ! { apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends $missing >/dev/null; }; then
    echo "could not be installed:$missing" >&2
fi

if [ -n "$unpack" ]; then
    directory=$(mktemp -d)
    version=$(dpkg-query --show --showformat='${Version}' cyrus-common 2>/dev/null || true)
    chmod 755 "$directory"
    if cd "$directory" && apt-get download --quiet=2 "$unpack=$version" 2>/dev/null && dpkg-deb --extract ./*.deb .; then
        install -D --mode=755 --target-directory=$unpacked usr/lib/cyrus/bin/imapd usr/lib/cyrus/bin/idled
    else
        echo "could not be unpacked: $unpack $version" >&2
    fi
    rm -rf "$directory"
fi
