import pytest
import torch

from comad.methods.parts.alignment import (
    PCAAlignment,
    ProcrustesAlignment,
    TokenMoments,
    generalized_procrustes,
    whitened_pca,
)

DIMS, WIDTH, PATCHES = (40, 32, 48), 16, 12


class Views:
    """Teachers of different widths that look at the same hidden causes in their own bases."""

    def __init__(self, dims=DIMS, causes=16, noise=0.3):
        self.bases = [torch.randn(causes, dim) / causes**0.5 for dim in dims]
        self.shifts = [3 * torch.randn(dim) for dim in dims]
        self.causes, self.noise = causes, noise

    def draw(self, batch):
        causes = torch.randn(batch, PATCHES, self.causes)
        return [
            causes @ basis + shift + self.noise * torch.randn(batch, PATCHES, basis.shape[1])
            for basis, shift in zip(self.bases, self.shifts, strict=True)
        ]


def fitted(kind, views, dims=DIMS, width=WIDTH, visible=0.7, batch=300):
    alignment = kind(dims, width)
    moments = TokenMoments(dims)
    for _ in range(4):
        moments.update(views.draw(batch), torch.rand(batch, len(dims), PATCHES) < visible)
    alignment.fit(moments)
    return alignment


def same_beats_random(alignment, tokens, j=0, k=1):
    """P(cosine of the same token in two teachers > cosine with another image's token)."""
    aligned = alignment(tokens)
    x, y = (torch.nn.functional.normalize(aligned[i], dim=-1) for i in (j, k))
    return float(((x * y).sum(-1) > (x * y.roll(1, dims=0)).sum(-1)).float().mean())


@pytest.mark.parametrize('pair', [(0, 1), (0, 2), (1, 2)])
def test_same_tokens_meet_after_procrustes_but_not_after_pca(pair):
    views = Views()
    held_out = views.draw(200)
    assert same_beats_random(fitted(ProcrustesAlignment, views), held_out, *pair) >= 0.9
    assert 0.35 <= same_beats_random(fitted(PCAAlignment, views), held_out, *pair) <= 0.65


def test_moments_equal_those_of_the_seen_tokens():
    views, moments = Views(), TokenMoments(DIMS)
    batches = [(views.draw(20), torch.rand(20, 3, PATCHES) < 0.6) for _ in range(3)]
    for tokens, visible in batches:
        moments.update(tokens, visible)
    seen = [torch.cat([t[k][v[:, k]] for t, v in batches]).double() for k in range(3)]
    for k in range(3):
        assert torch.allclose(moments.mean(k), seen[k].mean(0), atol=1e-8)
        assert torch.allclose(moments.covariance(k), torch.cov(seen[k].T, correction=0), atol=1e-6)
    both = [v[:, 0] & v[:, 2] for _, v in batches]
    x = torch.cat([t[0][b] for (t, _), b in zip(batches, both, strict=True)]).double()
    y = torch.cat([t[2][b] for (t, _), b in zip(batches, both, strict=True)]).double()
    expected = (x - seen[0].mean(0)).T @ (y - seen[2].mean(0)) / len(x)
    assert torch.allclose(moments.cross_covariance(0, 2), expected, atol=1e-6)
    assert torch.allclose(moments.cross_covariance(2, 0), expected.T, atol=1e-6)


def test_whitened_tokens_have_unit_covariance():
    x = (torch.randn(5000, 10) * torch.arange(1, 11)).double() @ torch.randn(10, 10).double()
    covariance = torch.cov(x.T)
    white = torch.cov((x @ whitened_pca(covariance, 6, whiten=True)).T)
    assert torch.allclose(white, torch.eye(6, dtype=torch.float64), atol=1e-6)
    plain = torch.cov((x @ whitened_pca(covariance, 6, whiten=False)).T)
    assert torch.allclose(plain.diag(), torch.linalg.eigvalsh(covariance).flip(0)[:6], rtol=1e-6)


def test_flat_directions_are_not_blown_up():
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    projection = whitened_pca(covariance, 3, whiten=True)
    assert projection.isfinite().all() and projection.abs().max() <= 1 / (4e-6) ** 0.5 + 1


def test_procrustes_recovers_known_rotations():
    hidden = [torch.linalg.qr(torch.randn(8, 8).double())[0] for _ in range(3)]
    spectrum = torch.diag(torch.linspace(1, 2, 8).double())
    cross = {
        (j, k): hidden[j] @ spectrum @ hidden[k].T for j in range(3) for k in range(3) if j != k
    }
    found = generalized_procrustes(cross, 3)
    common = [h.T @ r for h, r in zip(hidden, found, strict=True)]
    for k in range(3):
        assert torch.allclose(found[k].T @ found[k], torch.eye(8).double(), atol=1e-9)
        assert torch.allclose(common[k], common[0], atol=1e-5)


def test_one_teacher_is_just_its_whitened_pca():
    views = Views(dims=(40,))
    alignment = fitted(ProcrustesAlignment, views, dims=(40,), visible=1.0)
    raw = views.draw(400)[0]
    projected = (raw - alignment.mean_0) @ alignment.map_0
    covariance = torch.cov(projected.flatten(0, 1).T)
    assert torch.allclose(covariance, torch.eye(WIDTH), atol=0.15)


def test_a_teacher_narrower_than_the_student_fits():
    views = Views(dims=(40, 12), causes=8)
    alignment = fitted(ProcrustesAlignment, views, dims=(40, 12))
    aligned = alignment(views.draw(5))
    assert [x.shape for x in aligned] == [(5, PATCHES, WIDTH)] * 2
    assert same_beats_random(alignment, views.draw(200)) >= 0.9


def test_an_unfitted_alignment_stops_and_a_loaded_one_works():
    views = Views()
    fresh = ProcrustesAlignment(DIMS, WIDTH)
    with pytest.raises(RuntimeError, match='not fitted'):
        fresh(views.draw(1))
    source = fitted(ProcrustesAlignment, views)
    fresh.load_state_dict(source.state_dict())
    tokens = views.draw(2)
    assert all(torch.equal(a, b) for a, b in zip(fresh(tokens), source(tokens), strict=True))
    assert not any(p.requires_grad for p in fresh.parameters())


def test_equal_data_give_equal_maps():
    views = Views()
    tokens, visible = views.draw(50), torch.ones(50, 3, PATCHES).bool()
    maps = []
    for _ in range(2):
        moments, alignment = TokenMoments(DIMS), ProcrustesAlignment(DIMS, WIDTH)
        moments.update(tokens, visible)
        alignment.fit(moments)
        maps.append(alignment.map_1.clone())
    assert torch.equal(*maps)
