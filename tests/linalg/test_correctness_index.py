"""Mistakes seen in released libraries of this kind, and the test that each is not made here: by name, checked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

LIST = "test_correctness_list.py"
ALGEBRA = "test_correctness_list_algebra.py"
ROWS: dict[str, list[tuple[str, str]]] = {
    "batched right-hand sides [B, M, K]": [
        (LIST, "test_batched_right_hand_sides"),
        (ALGEBRA, "test_batched_right_hand_sides_of_products_and_factors"),
    ],
    "extra batch entries dropped": [
        (LIST, "test_no_batch_entry_is_dropped"),
        (ALGEBRA, "test_no_batch_entry_is_dropped"),
    ],
    "eigsh LM, SM, sigma ignored or swapped": [
        (ALGEBRA, "test_eigsh_gives_the_end_that_was_asked_for")
    ],
    "unsymmetric eigs solved with a symmetric method": [
        (
            ALGEBRA,
            "test_unsymmetric_eigenvalues_are_complex_and_unsymmetric_matrices_refused_by_eigsh",
        )
    ],
    "gradient of eigenvectors silently zero": [
        (ALGEBRA, "test_gradients_of_eigenvectors_are_not_silently_zero")
    ],
    "condition number from the wrong singular values": [
        (ALGEBRA, "test_the_condition_number_uses_both_ends")
    ],
    "logdet overflowing, or a stochastic estimate": [
        (ALGEBRA, "test_logdet_is_exact_where_the_determinant_overflows")
    ],
    "norm(1), norm(2) detached": [(ALGEBRA, "test_norms_are_attached")],
    "lu().solve detached": [(ALGEBRA, "test_solving_with_a_factor_is_attached")],
    "determinant gradient zero for small determinants": [
        (ALGEBRA, "test_the_gradient_of_a_small_determinant")
    ],
    "second derivatives wrong without an error": [
        (LIST, "test_second_derivatives"),
        (ALGEBRA, "test_second_derivatives_are_right_or_refused"),
        ("test_every_gradient.py", "test_second_derivatives"),
    ],
    "least-squares gradient wrong": [(LIST, "test_least_squares_gradient")],
    "tolerances accepted and ignored": [(LIST, "test_tolerances_are_obeyed")],
    "x = 0 because the right-hand side is small": [
        (LIST, "test_a_small_right_hand_side_has_a_small_solution")
    ],
    "iteration count always 0": [
        (LIST, "test_tolerances_are_obeyed"),
        ("../contracts/test_backend_contract.py", "test_preconditioned"),
    ],
    "integer matrices solved to zero": [
        (LIST, "test_integers_are_refused_not_solved_to_zero"),
        (ALGEBRA, "test_integer_matrices_are_refused"),
    ],
    "norm, abs, square wrong for duplicates": [
        (ALGEBRA, "test_duplicates_in_norms_and_elementwise_functions")
    ],
    "SPD not recognised for the Poisson matrix": [
        (LIST, "test_poisson_is_recognised"),
        (ALGEBRA, "test_the_poisson_matrix_is_positive_definite"),
    ],
    "singular systems giving NaN with a warning": [
        (LIST, "test_singular_is_an_error_and_no_warning")
    ],
    "non-convergence known only from a text warning": [
        (LIST, "test_failure_is_a_code_not_a_warning")
    ],
    "NaN residual in Newton never reported": [(ALGEBRA, "test_a_nan_residual_is_reported")],
    "indices, dtypes and shapes unchecked": [
        (LIST, "test_construction_is_checked"),
        (ALGEBRA, "test_construction_checks_what_it_is_given"),
    ],
    "A + B with different patterns refused": [(ALGEBRA, "test_different_patterns_add")],
    "warnings on every call": [(ALGEBRA, "test_no_warnings_and_the_same_bits_every_time")],
    "results that differ from run to run": [
        (LIST, "test_results_repeat_to_the_last_bit"),
        (ALGEBRA, "test_no_warnings_and_the_same_bits_every_time"),
    ],
    "two solves in one graph sharing one refreshed factor": [
        (LIST, "test_two_solves_in_one_graph")
    ],
    "an in-place edit of the values unnoticed": [
        (LIST, "test_an_edit_in_place_does_not_go_unnoticed")
    ],
    "a forked worker deadlocking in OpenMP": [
        ("test_processes.py", "test_a_forked_worker_solves"),
        ("test_processes.py", "test_a_data_loader_with_workers"),
    ],
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_test(row: str) -> None:
    for file, name in ROWS[row]:
        tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions
        assert any(
            isinstance(node, ast.Assert | ast.With | ast.Call) for node in ast.walk(functions[name])
        )
