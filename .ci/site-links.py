"""Checks a site: each link and picture leads to a file of it, and what a page loads is on the site."""
import html.parser, pathlib, sys, urllib.parse

root = pathlib.Path(sys.argv[1])
problems, links = [], 0


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def handle_starttag(self, tag, attrs):
        global links
        for name, value in attrs:
            loads = name == "src" or (tag == "link" and name == "href")
            if name not in ("href", "src") or not value or value.startswith(("#", "javascript:", "mailto:", "data:")):
                continue
            url = urllib.parse.urlsplit(value)
            if url.scheme or url.netloc:
                if loads:
                    problems.append(f"{self.path}: loads {value} from the network")
                continue
            links += 1
            target = (self.path.parent / urllib.parse.unquote(url.path)).resolve()
            if not target.is_file() and not target.is_dir():
                problems.append(f"{self.path}: {value} leads nowhere")


pages = sorted(root.rglob("*.html"))
for path in pages:
    if path.name not in ("404.html", "toc.html"):
        Page(path).feed(path.read_text())
print("\n".join(problems))
print(f"site: {len(pages)} pages, {links} links, {len(problems)} problems")
sys.exit(1 if problems or not links else 0)
