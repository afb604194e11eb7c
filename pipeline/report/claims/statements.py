"""The paper's falsifiable statements, in its order: what each says, and what it rests on."""

from functools import partial

from pipeline.report.claims.comparisons import (
    ALMOST,
    APPRECIABLY,
    BACKBONES,
    MINI,
    SHOTS,
    TWINS,
    bounded,
    chained,
    compared,
    in_columns,
    moves_a_lot_for_little,
    not_slower,
    thirteen_times,
    trained,
)
from pipeline.report.claims.verdicts import Claim
from pipeline.report.tables import (
    coefficient_sweep,
    cross_fine_tuners,
    separation,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    travel,
)

CLAIMS = [
    Claim(
        "meta_is_better_with_every_fine_tuner",
        "In all cases, the meta-learned feature extractors outperform classically trained models "
        "of the same architecture.",
        "Section 3, Table 1 and Appendix A.1",
        "Table 1",
        "all",
        chained(
            compared(
                "table1",
                partial(table1.cells, n_shot=1),
                in_columns(table1.FINE_TUNERS, TWINS),
                "higher",
                roles=MINI,
            ),
            *(
                compared(
                    "cross_fine_tuners",
                    partial(cross_fine_tuners.cells, n_shot=n_shot),
                    in_columns(table1.FINE_TUNERS, TWINS),
                    "higher",
                    roles=(role,),
                    part=f"{n_shot}-shot",
                )
                for role, n_shot in cross_fine_tuners.PARTS
            ),
        ),
    ),
    Claim(
        "meta_clusters_features",
        "On both CIFAR-FS and mini-ImageNet, the meta-learned models attain lower values of R_FC.",
        "Section 4.1, Table 2",
        "Table 2",
        "all",
        compared("table2", table2.cells, in_columns(["R_FC"], TWINS), "lower"),
    ),
    Claim(
        "meta_steadies_hyperplanes",
        "On both CIFAR-FS and mini-ImageNet, the meta-learned models attain lower values of R_HV.",
        "Section 4.1, Table 2",
        "Table 2",
        "all",
        compared("table2", table2.cells, in_columns(["R_HV"], TWINS), "lower"),
    ),
    Claim(
        "small_variance_ratio_suffices",
        "The one-shot classifier assigns the correct label with probability at least "
        "1 - 32 eps / (1 - eps).",
        "Theorem 1",
        "Theorem 1",
        "all",
        bounded,
    ),
    Claim(
        "protonet_separates_better",
        "The meta-learned network (ProtoNet) produces better class separation than the classical "
        "one of the same architecture.",
        "Section 4.3, Figure 2",
        "Figure 2",
        "all",
        compared(
            "separation",
            separation.cells,
            [(("ProtoNet", "", "other images"), ("Classical", "", "other images"))],
            "lower",
            in_paper=MINI,
        ),
    ),
    Claim(
        "r_fc_improves_transfer",
        "In all experiments, feature clustering improves the performance of transfer learning.",
        "Section 4.4, Table 3",
        "Table 3",
        "all",
        compared("table3", table3.cells, trained("Classical w/ R_FC", "Classical"), "higher"),
    ),
    Claim(
        "r_fc_can_beat_meta",
        "Classical training with R_FC sometimes even achieves higher performance than "
        "meta-learning.",
        "Section 4.4, Table 3",
        "Table 3",
        "any",
        compared("table3", table3.cells, trained("Classical w/ R_FC", None), "higher"),
    ),
    Claim(
        "r_hv_improves_transfer",
        "R_HV conclusively outperforms non-regularized classical training.",
        "Section 4.5, Table 3",
        "Table 3",
        "all",
        compared("table3", table3.cells, trained("Classical w/ R_HV", "Classical"), "higher"),
    ),
    Claim(
        "r_hv_is_almost_r_fc",
        f"R_HV performs almost as well as R_FC (here: within {ALMOST} points).",
        "Section 4.5, Table 3",
        "Table 3",
        "all",
        compared(
            "table3",
            table3.cells,
            trained("Classical w/ R_HV", "Classical w/ R_FC"),
            "higher",
            margin=ALMOST,
        ),
    ),
    Claim(
        "r_fc_is_closer_to_meta",
        "Networks trained with R_FC exhibit higher similarity scores to meta-learned networks "
        "than networks trained classically but without R_FC.",
        "Section 4.4, Table 4",
        "Table 4",
        "all",
        compared(
            "table4",
            table4.cells,
            [((name, "", "R_FC"), (name, "", "C")) for name in BACKBONES],
            "higher",
        ),
    ),
    Claim(
        "classical_is_faster",
        "Classical training runs as much as 13 times faster than the corresponding meta-learning "
        "routine.",
        "Section 4.4, Appendix A.2",
        "Training times",
        "any",
        thirteen_times,
        needs_scale="paper",
    ),
    Claim(
        "r_fc_is_free",
        "The regularizer does not appreciably slow down classical training (here: a step takes "
        f"less than {100 * APPRECIABLY:.0f} % longer).",
        "Section 4.4, Appendix A.2",
        "Training times",
        "all",
        not_slower,
    ),
    Claim(
        "maml_does_not_cluster",
        "MAML exhibits even worse feature separation than a classically trained model of the same "
        "architecture.",
        "Section 4.6, Table 5",
        "Table 5",
        "all",
        compared(
            "table5",
            table5.cells,
            in_columns(
                table2.MEASURES, [((row, ""), ("MAML-C", "")) for row in ("MAML-1", "MAML-5")]
            ),
            "higher",
            roles=MINI,
        ),
    ),
    Claim(
        "weight_clustering_beats_reptile",
        "In both cases, Reptile with Weight-Clustering achieves higher performance than the "
        "original algorithm.",
        "Section 5.1, Table 6",
        "Table 6",
        "all",
        compared(
            "table6",
            table6.cells,
            in_columns(SHOTS, [(("W-Clustering", ""), ("Reptile", ""))]),
            "higher",
            in_paper=MINI,
        ),
    ),
    Claim(
        "weight_clustering_beats_others",
        "Reptile with Weight-Clustering achieves significantly better performance than FOMAML and "
        "the classically trained models.",
        "Section 5.1, Table 6",
        "Table 6",
        "all",
        compared(
            "table6",
            table6.cells,
            in_columns(
                SHOTS, [(("W-Clustering", ""), (row, "")) for row in ("FOMAML", "Classical")]
            ),
            "higher",
            in_paper=MINI,
        ),
    ),
    Claim(
        "coefficients_around_it_help_too",
        "A range of values up to ten times larger and smaller also produced improvements over the "
        "original algorithm.",
        "Section 5.1, Appendix A.3",
        "Table 6",
        "all",
        compared(
            "coefficient_sweep",
            coefficient_sweep.cells,
            in_columns(SHOTS, [((row, ""), ("Reptile", "")) for row in ("5e-6", "5e-4")]),
            "higher",
            in_paper=MINI,
        ),
    ),
    Claim(
        "weight_clustering_travels_less",
        "Parameters of networks trained using our regularized version of Reptile do not travel as "
        "far during fine-tuning as those trained using vanilla Reptile.",
        "Section 5.1, Figure 3",
        "Figure 3",
        "all",
        chained(
            *(
                compared(
                    "travel",
                    partial(travel.cells, n_shot=n_shot),
                    in_columns(["distance"], [(("W-Clustering", ""), ("Reptile", ""))]),
                    "lower",
                    in_paper=MINI,
                    part=f"{n_shot}-shot",
                )
                for n_shot in (1, 5)
            )
        ),
    ),
    Claim(
        "last_layer_models_move_for_little",
        "When the whole network of MetaOptNet and R2-D2 is fine-tuned, the parameters move a lot "
        "without substantially decreasing loss (here: farther than Reptile's model under the same "
        "steps, with less gain).",
        "Section 5.1",
        "Figure 3",
        "all",
        moves_a_lot_for_little,
    ),
]
