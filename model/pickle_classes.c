/* SPDX-License-Identifier: Apache-2.0 */
/* Every class and function that a model's pickle may name. Whoever adds one: it is a word whose state is read
 * or ignored, never code. */
#include "model/pickle.h"

#include <string.h>

#define SK "sklearn."
#define NUMPY(name, role)                                                                                    \
        { "numpy.core.multiarray", name, role },                                                             \
        {                                                                                                    \
                "numpy._core.multiarray", name, role                                                         \
        }
#define DISTANCE(name)                                                                                       \
        { SK "metrics._dist_metrics", name "Distance", ROLE_VALUE },                                         \
        {                                                                                                    \
                SK "metrics._dist_metrics", name "Distance64", ROLE_VALUE                                    \
        }
/* A loss in scikit-learn's own words, and its compiled half under the two names that it has had. */
#define LOSS(name, compiled)                                                                                 \
        { SK "_loss.loss", name, ROLE_OBJECT }, { "_loss", "__pyx_unpickle_Cy" compiled, ROLE_MADE },        \
                { "_loss", "Cy" compiled, ROLE_MADE },                                                       \
                { SK "_loss._loss", "__pyx_unpickle_Cy" compiled, ROLE_MADE },                               \
        {                                                                                                    \
                SK "_loss._loss", "Cy" compiled, ROLE_MADE                                                   \
        }
#define CURVE(prefix)                                                                                        \
        {                                                                                                    \
                prefix "trainer.curvefit", "CurveFitModel", ROLE_OBJECT                                      \
        }
#define FORMULA(prefix, trainer, function)                                                                   \
        { prefix "train.trainer." trainer "RegressionTrainer.main", function, ROLE_VALUE },                  \
        {                                                                                                    \
                prefix "train.trainer." trainer "RegressionTrainer.main", "p0_func", ROLE_VALUE              \
        }

const struct pickle_class pickle_classes[] = {
        { "joblib.numpy_pickle", "NumpyArrayWrapper", ROLE_WRAPPER },
        { "numpy", "ndarray", ROLE_VALUE },
        { "numpy", "dtype", ROLE_DTYPE },
        NUMPY("scalar", ROLE_SCALAR),
        NUMPY("_reconstruct", ROLE_RECONSTRUCT),
        { "numpy.core.numeric", "_frombuffer", ROLE_FROMBUFFER },
        { "numpy._core.numeric", "_frombuffer", ROLE_FROMBUFFER },
        { "_codecs", "encode", ROLE_ENCODE },
        { "__builtin__", "bytes", ROLE_BYTES },

        { SK "preprocessing._data", "MaxAbsScaler", ROLE_OBJECT },
        { SK "preprocessing._data", "MinMaxScaler", ROLE_OBJECT },
        { SK "preprocessing._data", "StandardScaler", ROLE_OBJECT },
        { SK "preprocessing._data", "RobustScaler", ROLE_OBJECT },
        { SK "preprocessing._polynomial", "PolynomialFeatures", ROLE_OBJECT },
        { SK "pipeline", "Pipeline", ROLE_OBJECT },

        { SK "linear_model._base", "LinearRegression", ROLE_OBJECT },
        { SK "linear_model._stochastic_gradient", "SGDRegressor", ROLE_OBJECT },
        { SK "linear_model._ridge", "Ridge", ROLE_OBJECT },
        { SK "linear_model._coordinate_descent", "Lasso", ROLE_OBJECT },
        { SK "linear_model._coordinate_descent", "ElasticNet", ROLE_OBJECT },
        { SK "linear_model._huber", "HuberRegressor", ROLE_OBJECT },

        { SK "linear_model._ridge", "RidgeCV", ROLE_OBJECT },
        { SK "linear_model._coordinate_descent", "LassoCV", ROLE_OBJECT },
        { SK "linear_model._coordinate_descent", "ElasticNetCV", ROLE_OBJECT },
        { SK "linear_model._least_angle", "Lars", ROLE_OBJECT },
        { SK "linear_model._least_angle", "LassoLars", ROLE_OBJECT },
        { SK "linear_model._least_angle", "LarsCV", ROLE_OBJECT },
        { SK "linear_model._least_angle", "LassoLarsCV", ROLE_OBJECT },
        { SK "linear_model._least_angle", "LassoLarsIC", ROLE_OBJECT },
        { SK "linear_model._bayes", "BayesianRidge", ROLE_OBJECT },
        { SK "linear_model._bayes", "ARDRegression", ROLE_OBJECT },
        { SK "linear_model._omp", "OrthogonalMatchingPursuit", ROLE_OBJECT },
        { SK "linear_model._omp", "OrthogonalMatchingPursuitCV", ROLE_OBJECT },
        { SK "linear_model._theil_sen", "TheilSenRegressor", ROLE_OBJECT },
        { SK "linear_model._quantile", "QuantileRegressor", ROLE_OBJECT },
        { SK "linear_model._passive_aggressive", "PassiveAggressiveRegressor", ROLE_OBJECT },
        { SK "linear_model._glm.glm", "PoissonRegressor", ROLE_OBJECT },
        { SK "linear_model._glm.glm", "GammaRegressor", ROLE_OBJECT },
        { SK "linear_model._glm.glm", "TweedieRegressor", ROLE_OBJECT },

        { SK "svm._classes", "SVR", ROLE_OBJECT },
        { SK "svm._classes", "NuSVR", ROLE_OBJECT },
        { SK "svm._classes", "LinearSVR", ROLE_OBJECT },

        { SK "neighbors._regression", "KNeighborsRegressor", ROLE_OBJECT },
        { SK "neighbors._kd_tree", "newObj", ROLE_MADE },
        { SK "neighbors._kd_tree", "KDTree", ROLE_VALUE },
        { SK "neighbors._kd_tree", "KDTree64", ROLE_VALUE },
        { SK "neighbors._ball_tree", "newObj", ROLE_MADE },
        { SK "neighbors._ball_tree", "BallTree", ROLE_VALUE },
        { SK "neighbors._ball_tree", "BallTree64", ROLE_VALUE },
        { SK "metrics._dist_metrics", "newObj", ROLE_MADE },
        DISTANCE("Euclidean"),
        DISTANCE("Manhattan"),
        DISTANCE("Chebyshev"),
        DISTANCE("Minkowski"),

        { SK "tree._classes", "DecisionTreeRegressor", ROLE_OBJECT },
        { SK "tree._classes", "ExtraTreeRegressor", ROLE_OBJECT },
        { SK "tree._tree", "Tree", ROLE_MADE },
        { SK "ensemble._forest", "RandomForestRegressor", ROLE_OBJECT },
        { SK "ensemble._forest", "ExtraTreesRegressor", ROLE_OBJECT },
        { SK "ensemble._gb", "GradientBoostingRegressor", ROLE_OBJECT },
        { SK "dummy", "DummyRegressor", ROLE_OBJECT },
        { SK "ensemble._gb_losses", "LeastSquaresError", ROLE_OBJECT },
        { SK "ensemble._gb_losses", "LeastAbsoluteError", ROLE_OBJECT },
        { SK "ensemble._gb_losses", "HuberLossFunction", ROLE_OBJECT },
        { SK "ensemble._gb_losses", "QuantileLossFunction", ROLE_OBJECT },
        LOSS("HalfSquaredError", "HalfSquaredError"),
        LOSS("AbsoluteError", "AbsoluteError"),
        LOSS("HuberLoss", "HuberLoss"),
        LOSS("PinballLoss", "PinballLoss"),
        LOSS("HalfPoissonLoss", "HalfPoissonLoss"),
        LOSS("HalfGammaLoss", "HalfGammaLoss"),
        LOSS("HalfTweedieLoss", "HalfTweedieLoss"),
        LOSS("HalfTweedieLossIdentity", "HalfTweedieLossIdentity"),
        { SK "_loss.link", "IdentityLink", ROLE_OBJECT },
        { SK "_loss.link", "LogLink", ROLE_OBJECT },
        { SK "_loss.link", "Interval", ROLE_OBJECT },

        { SK "ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingRegressor",
          ROLE_OBJECT },
        { SK "ensemble._hist_gradient_boosting.binning", "_BinMapper", ROLE_OBJECT },
        { SK "ensemble._hist_gradient_boosting.predictor", "TreePredictor", ROLE_OBJECT },

        { SK "neural_network._multilayer_perceptron", "MLPRegressor", ROLE_OBJECT },
        { SK "neural_network._stochastic_optimizers", "AdamOptimizer", ROLE_OBJECT },
        { SK "neural_network._stochastic_optimizers", "SGDOptimizer", ROLE_OBJECT },

        { "numpy.random._pickle", "__randomstate_ctor", ROLE_MADE },
        { "numpy.random._pickle", "__bit_generator_ctor", ROLE_MADE },
        { "numpy.random._mt19937", "MT19937", ROLE_VALUE },
        { "numpy.random.bit_generator", "__pyx_unpickle_SeedSequence", ROLE_MADE },
        { "numpy.random.bit_generator", "SeedSequence", ROLE_VALUE },

        CURVE(""),
        CURVE("train."),
        CURVE("kepler_model.train."),
        FORMULA("", "Exponential", "expo_func"),
        FORMULA("", "Logarithmic", "log_func"),
        FORMULA("", "Logistic", "logi_func"),
        FORMULA("kepler_model.", "Exponential", "expo_func"),
        FORMULA("kepler_model.", "Logarithmic", "log_func"),
        FORMULA("kepler_model.", "Logistic", "logi_func"),
};
const size_t pickle_classes_n = ARRAY_SIZE(pickle_classes);
_Static_assert(ARRAY_SIZE(pickle_classes) <= PICKLE_CLASSES_MAX, "the reader's marks are too few");

static bool same(const char *allowed, const char *s, size_t size)
{
        return size > 0 && *allowed == *s && strlen(allowed) == size && !memcmp(allowed, s, size);
}

const struct pickle_class *pickle_class_find(const char *module, size_t module_size, const char *name,
                                             size_t name_size)
{
        for (size_t i = 0; i < pickle_classes_n; i++)
                if (same(pickle_classes[i].name, name, name_size) &&
                    same(pickle_classes[i].module, module, module_size))
                        return &pickle_classes[i];
        return NULL;
}
