from sfumato.data.sources.breast_cancer import BreastCancer


def test_breast_cancer_is_a_table_of_two_classes():
    population = BreastCancer().load()
    assert (len(population), population.records.shape) == (569, (30,))
    assert population.class_names == ("malignant", "benign")
    assert (population.label_array == 0).sum() == 212
    assert population.groups == {}
