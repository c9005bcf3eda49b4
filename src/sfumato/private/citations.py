"""Papers that several parts of DP-SGD come from."""

from __future__ import annotations

ABADI2016 = """@inproceedings{abadi2016deep,
  author = {Abadi, Martin and Chu, Andy and Goodfellow, Ian and McMahan, H. Brendan and Mironov, Ilya and Talwar, Kunal
            and Zhang, Li},
  title = {Deep Learning with Differential Privacy},
  booktitle = {ACM Conference on Computer and Communications Security},
  pages = {308--318},
  year = {2016}
}"""
