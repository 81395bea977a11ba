"""PURE: the providers that everybody knows, by the domain of an address or by the MX records of one's own domain.

Hosts, ports and forms of user names are those that the providers publish for mail programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maillinkd.imap.discover.offer import Auth, Offer, Tls, is_inside


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. Without a host it has no IMAP; the note says what there is instead."""

    name: str
    host: str
    domains: str = ""
    """The domains under which it hands out addresses, by spaces."""
    mx: str = ""
    """The domains in which its MX hosts lie, by spaces."""
    port: int = 993
    tls: Tls = "implicit"
    user: Literal["address", "local"] = "address"
    """The usual form of the user name. The other one is tried, too."""
    auth: tuple[Auth, ...] = ("password",)
    oauth: str = ""
    folders: tuple[str, ...] = ("INBOX", "\\Sent")
    bytes_a_day: int = 0
    """Which to keep below the limit that it documents for IMAP; 0: it documents none."""
    note: str = ""


_GOOGLE_NOTE = (
    "Google takes app passwords, for accounts with 2-step verification (https://myaccount.google.com/apppasswords), "
    "and OAuth2; not the account's own password."
)
_MICROSOFT_NOTE = "Microsoft takes OAuth2 alone; an administrator may have to allow IMAP for the mailbox."
_UNITED_NOTE = "IMAP must be switched on in the web mail's settings (POP3/IMAP)."

PROVIDERS = (
    Provider("Gmail", "imap.gmail.com", "gmail.com googlemail.com", "google.com googlemail.com",
             auth=("password", "oauth2"), oauth="google", folders=("\\All",), bytes_a_day=2_000_000_000,
             note=_GOOGLE_NOTE),
    Provider("Microsoft 365 and Outlook.com", "outlook.office365.com",
             "outlook.com hotmail.com live.com msn.com outlook.de hotmail.de live.de hotmail.co.uk live.co.uk "
             "outlook.fr hotmail.fr live.fr outlook.es hotmail.es outlook.it hotmail.it live.nl hotmail.nl",
             "mail.protection.outlook.com olc.protection.outlook.com mx.microsoft",
             auth=("oauth2",), oauth="microsoft", note=_MICROSOFT_NOTE),
    Provider("Yahoo", "imap.mail.yahoo.com",
             "yahoo.com ymail.com rocketmail.com myyahoo.com yahoo.de yahoo.co.uk yahoo.fr yahoo.es yahoo.it",
             "yahoodns.net",
             note="Yahoo takes app passwords (https://login.yahoo.com/account/security)."),
    Provider("AOL", "imap.aol.com", "aol.com aim.com aol.de aol.co.uk aol.fr", "mx-aol.mail.gm0.yahoodns.net",
             note="AOL takes app passwords (https://login.aol.com/account/security)."),
    Provider("iCloud", "imap.mail.me.com", "icloud.com me.com mac.com", "mail.icloud.com", user="local",
             note="Apple takes app-specific passwords (https://account.apple.com). With a domain of your own the "
                  "user name is that of your iCloud address."),
    Provider("Fastmail", "imap.fastmail.com", "fastmail.com fastmail.fm", "messagingengine.com",
             note="Fastmail takes app passwords (https://app.fastmail.com/settings/security)."),
    Provider("GMX", "imap.gmx.net", "gmx.de gmx.net gmx.at gmx.ch", "emig.gmx.net", note=_UNITED_NOTE),
    Provider("GMX (international)", "imap.gmx.com", "gmx.com gmx.us gmx.co.uk gmx.fr gmx.es gmx.org", "",
             note=_UNITED_NOTE),
    Provider("web.de", "imap.web.de", "web.de", "emig.web.de", note=_UNITED_NOTE),
    Provider("mail.com", "imap.mail.com", "mail.com email.com usa.com", "", note=_UNITED_NOTE),
    Provider("mailbox.org", "imap.mailbox.org", "mailbox.org", "mailbox.org"),
    Provider("Posteo", "posteo.de", "posteo.de posteo.net posteo.org posteo.eu posteo.at posteo.ch", "posteo.de"),
    Provider("Zoho", "imap.zoho.com", "zoho.com zohomail.com",
             note="IMAP must be switched on in Zoho Mail's settings; with two-factor sign-in an app password is "
                  "needed."),
    Provider("Zoho (own domain)", "imappro.zoho.com", mx="zoho.com zohomail.com",
             note="IMAP must be switched on in Zoho Mail's settings; with two-factor sign-in an app password is "
                  "needed."),
    Provider("Zoho (Europe)", "imap.zoho.eu", "zoho.eu zohomail.eu"),
    Provider("Zoho (Europe, own domain)", "imappro.zoho.eu", mx="zoho.eu"),
    Provider("Zoho (India)", "imap.zoho.in", "zoho.in zohomail.in"),
    Provider("Zoho (India, own domain)", "imappro.zoho.in", mx="zoho.in"),
    Provider("Yandex", "imap.yandex.com", "yandex.com yandex.ru ya.ru yandex.by yandex.kz", "yandex.net yandex.ru",
             note="Yandex takes app passwords (https://id.yandex.com/security/app-passwords); IMAP must be switched "
                  "on in the web mail's settings."),
    Provider("Mail.ru", "imap.mail.ru", "mail.ru inbox.ru list.ru bk.ru", "mxs.mail.ru emx.mail.ru",
             note="Mail.ru takes app passwords."),
    Provider("OVH", "ssl0.ovh.net", mx="mail.ovh.net",
             note="Exchange accounts of OVH have a host of their own (such as ex4.mail.ovh.net): --host."),
    Provider("Ionos (Germany)", "imap.ionos.de", "online.de", "ionos.de kundenserver.de 1and1.de"),
    Provider("Ionos", "imap.ionos.com", mx="ionos.com 1and1.com perfora.net"),
    Provider("Ionos (UK)", "imap.ionos.co.uk", mx="ionos.co.uk 1and1.co.uk"),
    Provider("Ionos (France)", "imap.ionos.fr", mx="ionos.fr 1and1.fr"),
    Provider("Ionos (Spain)", "imap.ionos.es", mx="ionos.es 1and1.es"),
    Provider("Infomaniak", "mail.infomaniak.com", "ik.me ikmail.com etik.com", "infomaniak.ch infomaniak.com"),
    Provider("Strato", "imap.strato.de", mx="rzone.de"),
    Provider("Hetzner", "mail.your-server.de", mx="your-server.de"),
    Provider("Gandi", "mail.gandi.net", mx="mail.gandi.net"),
    Provider("Telekom", "secureimap.t-online.de", "t-online.de magenta.de",
             note="The Telekom takes the e-mail password, which is set in the customer centre."),
    Provider("Freenet", "mx.freenet.de", "freenet.de"),
    Provider("Orange", "imap.orange.fr", "orange.fr wanadoo.fr"),
    Provider("La Poste", "imap.laposte.net", "laposte.net"),
    Provider("Migadu", "imap.migadu.com", mx="migadu.com"),
    Provider("Rackspace", "secure.emailsrvr.com", mx="emailsrvr.com"),
    Provider("Namecheap Private Email", "mail.privateemail.com", mx="privateemail.com"),
    Provider("Runbox", "mail.runbox.com", "runbox.com runbox.no", "runbox.com"),
    Provider("Proton Mail", "127.0.0.1", "proton.me protonmail.com protonmail.ch pm.me", "protonmail.ch",
             port=1143, tls="starttls",
             note="Proton Mail is read through Proton Mail Bridge, which must run on this machine. Export its "
                  "certificate there and give it with --ca-file; user name and password are those that it shows."),
    Provider("Tuta", "", "tuta.com tutanota.com tutanota.de tutamail.com tuta.io keemail.me", "tutanota.de",
             note="Tuta has no IMAP. Forward the mail to another mailbox, or use Smart Bcc."),
)  # fmt: skip

_BY_DOMAIN = {domain: provider for provider in PROVIDERS for domain in provider.domains.split()}
_BY_MX = {domain: provider for provider in PROVIDERS for domain in provider.mx.split()}


def of_domain(domain: str) -> Provider | None:
    """The provider that hands out addresses in this domain."""
    return _BY_DOMAIN.get(domain)


def of_mx(hosts: Sequence[str]) -> Provider | None:
    """The provider that receives a domain's mail; `hosts`: its MX hosts, the preferred first.

    The longest name that fits decides, so that AOL is not taken for Yahoo.
    """
    for host in hosts:
        fitting = [mx for mx in _BY_MX if is_inside(host, mx)]
        if fitting:
            return _BY_MX[max(fitting, key=len)]
    return None


def offer_of(provider: Provider, address: str, source: str) -> Offer:
    """What the provider offers to an address. It must have IMAP."""
    local = address.rpartition("@")[0]
    usernames = (local, address) if provider.user == "local" else (address, local)
    return Offer(
        host=provider.host,
        port=provider.port,
        tls=provider.tls,
        usernames=usernames,
        source=source,
        evidence="list",
        auth=provider.auth,
        provider=provider.oauth,
        folders=provider.folders,
        bytes_a_day=provider.bytes_a_day,
        note=provider.note,
    )
